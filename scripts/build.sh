#!/bin/bash
# build.sh — makes dist/patchbay. Each step is left out when what it reads has not changed, so a second build takes a
# second; the same sources give the same bytes. One build at a time: another one waits.
set -eu
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$root"
setup_node
mkdir -p build dist
exec 9> build/.lock
flock 9

bash scripts/native.sh > /dev/null
"$bun" scripts/guests.ts
"$bun" scripts/embedded.ts | cmp -s - cmd/embedded.generated.ts \
  || { say "cmd/embedded.generated.ts is out of date. Run: bash scripts/generated-fresh.sh --write"; exit 1; }

# Two of the flags are security: a compiled program otherwise reads bunfig.toml and .env in the directory it is started
# in, and runs what they name, as root. The last two keep the checkout's path out of it, which some packages ask for.
# An operation is over before compiling its JavaScript to machine code could pay: the JIT policy keeps it interpreted.
# test/bun builds its programs with the same flags.
mapfile -t flags < scripts/link.flags
key=$({
  "$bun" --revision
  echo "${flags[@]}"
  find build/guests build/native -type f ! -name '*.key' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
  sha256sum build/embedded.json package.json package-lock.json tsconfig.json
  find cmd core proto -name '*.ts' ! -name '*.test.ts' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
} 2> /dev/null | sha256sum)
[ -x dist/patchbay ] && [ "$(cat build/patchbay.key 2> /dev/null)" = "$key" ] && exit 0

rm -rf build/link; mkdir build/link
"$bun" build "${flags[@]}" cmd/main.ts --outfile build/link/patchbay > build/link/log 2>&1 || { cat build/link/log >&2; exit 1; }
mv build/link/patchbay dist/patchbay
rm -rf build/link
printf '%s' "$key" > build/patchbay.key
say "dist/patchbay"
