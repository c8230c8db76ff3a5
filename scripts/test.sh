#!/bin/bash
# test.sh [--long] [--only SUITE]... — brings what the tests need, runs all that this machine can run, and ends with
# `N passed, N failed, N skipped`. As root every suite runs and a skip is a failure, unless test/allowed-skips has its reason.
set -eu
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$root"
setup_node
setup_packages
"$bun" scripts/test.ts "$@"
