#!/bin/bash
# generate-proto.sh [DIRECTORY] — TypeScript from proto/*.proto, into proto/gen or the given directory.
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:-proto/gen}
rm -rf "$out"
node_modules/.bin/buf generate proto --template "$(sed "s#proto/gen#$out#" proto/buf.gen.yaml)"
