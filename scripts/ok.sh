#!/bin/bash
# ok.sh — the whole gate for a contributor, without root: format and lint, types, unit tests, build, generated files.
set -eu
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$root"
setup_node
"$bun" scripts/test.ts --only checks --only unit
