#!/bin/bash
# bench.sh [--rounds N] [--no-write] — builds Patchbay and its peers and measures them beside each other on a node of
# their own; writes docs/performance.md and the table of README.md when the rounds are the full 50. Needs root. Let the
# machine do nothing else.
set -eu
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$root"
am_root || { say "npm run bench needs root: it makes network namespaces"; exit 2; }
setup_node
setup_packages
bash scripts/build.sh
scripts/peers.sh reference debian-cni multus floor runner > /dev/null
scripts/in-node.sh "$bun" bench/run.ts "$@"
