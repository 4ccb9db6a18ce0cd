#!/bin/sh
echo "the kettle boils" >&2
printf logged
