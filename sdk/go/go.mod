module mote.dev/function

go 1.24
