#!/bin/bash
# generated-fresh.sh — makes every generated file again in a temporary directory and compares it with the committed one.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
status=0

# fresh COMMITTED COMMAND... — the command gets, as its last argument, the path to write to.
fresh() {
  local committed=$1 made=$scratch/${1//\//_}
  shift
  if ! "$@" "$made" > "$scratch/log" 2>&1; then
    echo "$committed: cannot be made again: $*"; cat "$scratch/log"; status=1
  elif ! diff -r -u "$committed" "$made" > "$scratch/log"; then
    echo "$committed is stale. Run: $*"; head -n 40 "$scratch/log"; status=1
  fi
}

fresh proto/gen scripts/generate-proto.sh

exit $status
