#!/bin/sh
# Runs a program with the right Node first on PATH: sh scripts/with-node.sh node scripts/build.ts
cd "$(dirname "$0")/.." && . scripts/env.sh && PATH="$PWD/node_modules/.bin:$PATH" exec "$@"
