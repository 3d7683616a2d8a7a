#!/bin/sh
# npm test: set-up, then the gate. Arguments go to scripts/test.ts: see `npm test -- --help`.
set -eu
cd "$(dirname "$0")/.."
for argument in "$@"; do
  [ "$argument" != --no-install ] || exec sh scripts/setup.sh --tests --no-install
done
sh scripts/setup.sh --tests
. scripts/env.sh
exec node scripts/test.ts "$@"
