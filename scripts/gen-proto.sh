#!/bin/sh
# Generates src/runtime/containerd/gen from the .proto files beside it. The result is committed: only who changes a .proto
# file needs this, and protoc (Debian: protobuf-compiler).
set -eu
cd "$(dirname "$0")/.."
. scripts/env.sh
command -v protoc >/dev/null 2>&1 || { echo "gen-proto.sh: protoc is missing (Debian: apt-get install protobuf-compiler)" >&2; exit 1; }

proto=src/runtime/containerd/proto
gen=src/runtime/containerd/gen
options=outputServices=generic-definitions,outputJsonMethods=false,outputPartialMethods=false,outputExtensions=false
options=$options,enumsAsLiterals=true,unrecognizedEnum=false,onlyTypes=false,useOptionals=none,useExactTypes=false
options=$options,importSuffix=.ts,esModuleInterop=true,noDefaultsForOptionals=false

generate() { # <type of 64-bit numbers> <file...>
  long=$1
  shift
  protoc --plugin=protoc-gen-ts_proto=node_modules/.bin/protoc-gen-ts_proto \
    --ts_proto_out="$gen" --ts_proto_opt="$options,forceLong=$long" --proto_path="$proto" "$@"
}

rm -rf "$gen"
mkdir -p "$gen"
# Counters of nanoseconds outgrow a double's integers within months; nothing else does.
generate bigint "$proto/metrics.proto"
# shellcheck disable=SC2046 # our own file names have no spaces
generate number $(find "$proto" -name '*.proto' ! -name metrics.proto | sort)
