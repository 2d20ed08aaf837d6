#!/bin/sh
# Installs the build tree $1 to $2 by way of another place: whatever the installed files say of the first is then wrong.
set -eu
rm -rf "$2" "$2.first"
cmake --install "$1" --prefix "$2.first" >/dev/null
mv "$2.first" "$2"
