#!/bin/sh
# Generates src/net/fast-path/flow.gen.ts from flow.bpf.c beside it. The result is committed: only who changes the program needs
# this, and clang and llvm (Debian packages of these names).
set -eu
cd "$(dirname "$0")/.."
for tool in clang llvm-objcopy; do
  command -v "$tool" >/dev/null 2>&1 || { echo "gen-bpf.sh: $tool is missing (Debian: apt-get install clang llvm)" >&2; exit 1; }
done

folder=src/net/fast-path
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
clang -O2 -g0 -target bpf "-I/usr/include/$(uname -m)-linux-gnu" \
  -Wall -Werror -Wno-unused-function -c "$folder/flow.bpf.c" -o "$made/flow.o"
llvm-objcopy -O binary --only-section=program "$made/flow.o" "$made/program"
{
  echo "// Made of flow.bpf.c by scripts/gen-bpf.sh."
  echo "export const FLOW_PROGRAM ="
  base64 -w 100 "$made/program" | sed 's/^/  "/; s/$/" +/; $ s/ +$/;/'
} >"$folder/flow.gen.ts"
