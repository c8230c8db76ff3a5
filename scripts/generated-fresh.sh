#!/bin/bash
# generated-fresh.sh [--write] — makes every generated file again and says which one in the checkout is out of date;
# with --write puts the new ones in place. A line of `generated` is a file and the command that prints
# it, or a folder and the command that writes it to the path in its last argument.
set -eu
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$root"
declarations=$(bash scripts/native.sh)
wasmtime=$(sed -n 's/^wasmtime==\([^ ]*\).*/\1/p' scripts/wasmtime.lock)

generated() {
  folder proto/gen bash scripts/generate-proto.sh
  file core/sys/wasmtime-layout.generated.ts python3 scripts/wasmtime-layout.py "$declarations" "$wasmtime"
  file cmd/embedded.generated.ts "$bun" scripts/embedded.ts
  file test/golden/abi.txt "$bun" scripts/generate-calls.ts abi
  file test/golden/grants.txt "$bun" scripts/generate-grants.ts
  file docs/host-calls.md "$bun" scripts/generate-calls.ts page
  file plugins-wasm/sdk/assemblyscript/assembly/calls.generated.ts "$bun" scripts/generate-calls.ts bindings
}

mode=${1:-}
stale=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
file() {
  local name=$1
  shift
  rm -rf "$work/new"
  if "$@" > "$work/new" 2> "$work/log"; then settle "$name"; else unmade "$name"; fi
}
folder() {
  local name=$1
  shift
  rm -rf "$work/new"
  if "$@" "$work/new" > "$work/log" 2>&1; then settle "$name"; else unmade "$name"; fi
}
unmade() { say "$1 cannot be made again:"; cat "$work/log" >&2; stale=1; }
settle() {
  diff -r -u "$1" "$work/new" > "$work/diff" 2>&1 && return
  if [ "$mode" = --write ]; then rm -rf "$1"; cp -r "$work/new" "$1"; say "$1: written"; return; fi
  head -n 40 "$work/diff" >&2
  say "$1 is out of date. Run: bash scripts/generated-fresh.sh --write"
  stale=1
}
generated
exit $stale
