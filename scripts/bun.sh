#!/bin/bash
# bun.sh ARGS... — runs the Bun of package-lock.json. The one place that knows which platform package holds it.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
case $(uname -m) in
  x86_64) platform=linux-x64 ;;
  aarch64 | arm64) platform=linux-aarch64 ;;
  *) echo "Cannot run Bun: no package for $(uname -m), only x86_64 and aarch64" >&2; exit 2 ;;
esac
bun=$here/node_modules/@oven/bun-$platform/bin/bun
[ -x "$bun" ] || { echo "Cannot run Bun: $bun is missing. Run: npm ci" >&2; exit 2; }
exec "$bun" "$@"
