module {{name}}

go 1.24

require mote.dev/function v0.1.0
