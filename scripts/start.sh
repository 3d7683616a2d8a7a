#!/bin/sh
# npm start: set-up, then the product runs and proves it. Arguments: see `npm start -- --help`.
set -eu
cd "$(dirname "$0")/.."
for argument in "$@"; do
  case "$argument" in
    --no-install) exec sh scripts/setup.sh --no-install ;;
    --help | -h)
      echo "npm start                  set up what is missing, start root + cluster + worker, deploy examples/hello"
      echo "npm start -- --no-install  only list what is missing"
      echo "npm stop                   stop what npm start started"
      exit 0 ;;
    *) echo "npm start: unknown argument \"$argument\" (known: --no-install, --help)" >&2; exit 2 ;;
  esac
done
sh scripts/setup.sh
. scripts/env.sh
exec node scripts/start.ts
