#!/bin/sh
printf '%s\n%s\n%s\n' "$REQUEST_METHOD" "$PATH_INFO" "$QUERY_STRING"
