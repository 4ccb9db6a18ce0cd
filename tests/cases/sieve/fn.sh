#!/bin/sh
line= number=1
composite=" "
while [ $((number += 1)) -le 1000 ]; do
    case $composite in *" $number "*) continue ;; esac
    line="$line $number"
    multiple=$((number * number))
    while [ $multiple -le 1000 ]; do
        composite="$composite$multiple "
        multiple=$((multiple + number))
    done
done
echo "${line# }"
