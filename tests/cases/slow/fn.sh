#!/bin/sh
[ "$PATH_INFO" != /slow ] || sleep 600
printf quick
