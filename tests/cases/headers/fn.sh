#!/bin/sh
printf '%s\n%s\n' "${HTTP_X_TEST:--}" "${CONTENT_TYPE:--}"
