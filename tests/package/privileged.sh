#!/bin/sh
# Runs the program $1 with an environment that keeps a handle from being made, as it is and as a set-user-ID program of
# somebody else's: that one takes nothing from the environment.
set -eu
[ "$(id -u)" = 0 ] || { echo "skipped: only root can make a program somebody else's"; exit 77; }
copy=$(mktemp)
trap 'rm "$copy"' EXIT
cp "$1" "$copy"
chown 65534 "$copy"
chmod 4755 "$copy"

run() { NF4_TUNING_FILE=/nonexistent NF4_FORCE_VARIANT=nonsense "$1"; }
[ "$(run "$1")" = "plain, NF4_ERROR_UNKNOWN_VARIANT" ] || { run "$1"; exit 1; }
case $(run "$copy") in
  "privileged, NF4_SUCCESS") ;;
  plain*) echo "skipped: set-user-ID has no effect in $(dirname "$copy")"; exit 77 ;;
  *) run "$copy"; exit 1 ;;
esac
