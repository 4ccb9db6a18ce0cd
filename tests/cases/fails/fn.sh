#!/bin/sh
if [ "$PATH_INFO" = /fail ]; then
    echo "asked to fail" >&2
    echo "no such luck" >&2
    exit 3
fi
printf well
