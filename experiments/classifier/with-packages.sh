#!/bin/sh
# Makes a copy of the Python classifier that has its packages with it, for a node without a network to get them from.
# Its last line is the copy. What was made before is used again.
#
#   with-packages.sh FOLDER
set -eu
[ $# -eq 1 ] || {
    sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
    exit 2
}
source=$(cd "$(dirname "$0")/../functions/classify-python" && pwd -P)
mkdir -p "$1"
folder=$(cd "$1" && pwd -P)
exec 9>"$folder/lock"
flock 9
# Programs in the sandbox see the system's Python.
{
    /usr/bin/python3 --version
    cat "$source/requirements.txt"
} >"$folder/wanted.txt"
if ! cmp -s "$folder/wanted.txt" "$folder/packages-of.txt"; then
    rm -rf "$folder/packages"
    /usr/bin/python3 -m venv "$folder/venv" >&2 || {
        echo "python3 has no venv: install python3-venv" >&2
        exit 3
    }
    "$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile \
        --requirement "$source/requirements.txt" --target "$folder/packages" >&2 || {
        echo "no package index gives what $source/requirements.txt names" >&2
        exit 3
    }
    rm -rf "$folder/venv"
    cp "$folder/wanted.txt" "$folder/packages-of.txt"
fi
rm -rf "$folder/function"
mkdir "$folder/function"
for file in "$source"/*; do
    [ "$(basename "$file")" = requirements.txt ] || cp -R "$file" "$folder/function/"
done
cp -R "$folder/packages" "$folder/function/packages"
echo "$folder/function"
