#!/bin/sh
# Brings a Debian or Ubuntu machine to where Oakestra runs from this clone: Debian packages, Node, npm packages, the build.
# Does only what is missing; when nothing is, it ends at once.
#   setup.sh [--tests] [--no-install]
#     --tests       also what only the test suite needs
#     --no-install  lists what is missing, changes nothing, fails if something is
set -eu
cd "$(dirname "$0")/.."
. scripts/env.sh

with_tests=no
install=yes
for argument in "$@"; do
  case "$argument" in
    --tests) with_tests=yes ;;
    --no-install) install=no ;;
    *) echo "setup.sh: unknown argument \"$argument\" (known: --tests, --no-install)" >&2; exit 2 ;;
  esac
done

say() { printf '%s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

[ "$(uname -s)" = Linux ] || fail "Oakestra needs Linux: containers, network namespaces and nftables are the kernel's. This is $(uname -s)."

# --- what is missing -------------------------------------------------------------------------------------------------
missing_packages=
missing=no
lacks() { # <package> <what it is for>
  missing_packages="$missing_packages $1"
  missing=yes
  [ "$heading_shown" = yes ] || { say "Missing Debian packages:"; heading_shown=yes; }
  printf '  %-16s %s\n' "$1" "$2"
}
heading_shown=no
has() { command -v "$1" >/dev/null 2>&1; }
# By command, not by package: Docker's containerd.io, for one, brings containerd and runc under another name.
has containerd || lacks containerd "runs the containers"
has runc || lacks runc "starts a container's process; containerd calls it"
has nft || lacks nftables "the overlay's and the port mappings' packet rules"
has ip || lacks iproute2 "network namespaces and links of the instances"
has conntrack || lacks conntrack "drops the connections of an instance that is gone"
if ! has busybox || ldd "$(command -v busybox)" >/dev/null 2>&1; then
  lacks busybox-static "content of the example's image"
fi
[ -e /etc/ssl/certs/ca-certificates.crt ] || lacks ca-certificates "trust in image registries"
if [ "$with_tests" = yes ]; then
  has docker-registry || lacks docker-registry "tests: a real registry to pull from"
  has htpasswd || lacks apache2-utils "tests: registry credentials (htpasswd)"
fi

node_needed=no
if ! node_is_new_enough "$(command -v node || true)"; then
  node_needed=yes
  missing=yes
  found=$(node --version 2>/dev/null || echo none)
  say "Missing: Node $NODE_MAJOR (found: $found). Node $NODE_VERSION goes into .toolchain of this clone; the system's stays as it is."
fi

lock_hash=$(sha256sum package-lock.json | cut -d' ' -f1)
packages_needed=no
if [ "$(cat node_modules/.installed-lock 2>/dev/null || true)" != "$lock_hash" ]; then
  packages_needed=yes
  missing=yes
  say "Missing: npm packages, as package-lock.json names them."
fi

if [ "$install" = no ]; then
  [ "$missing" = yes ] || { say "Nothing is missing."; exit 0; }
  say "Nothing was installed (--no-install)."
  exit 1
fi

[ "$(id -u)" = 0 ] || fail "root is needed: containers, network namespaces and nftables belong to root. Run: sudo npm start (or sudo npm test)."

# One set-up at a time in one clone.
mkdir -p .toolchain
exec 9>.toolchain/lock
flock -w 900 9 || fail "another set-up has been running in this clone for 15 minutes; look at: fuser .toolchain/lock"

# --- Debian packages ------------------------------------------------------------------------------------------------
if [ -n "$missing_packages" ]; then
  has apt-get || fail "this is not a Debian or Ubuntu machine (no apt-get). Install the equivalents of:$missing_packages"
  case " $missing_packages " in
    *" docker-registry "*)
      # The tests start their own on loopback; Debian's would listen on every address.
      if has systemctl && [ -d /run/systemd/system ]; then systemctl mask docker-registry.service >/dev/null 2>&1 || true; fi ;;
  esac
  say "Installing with apt-get:$missing_packages"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q 9>&- || say "apt-get update failed; trying with the package lists that are there."
  # shellcheck disable=SC2086 # one word a package
  apt-get install -y -q --no-install-recommends $missing_packages 9>&- ||
    fail "apt-get could not install:$missing_packages. Its messages are above; install them by hand and run this again."
fi

# --- Node -----------------------------------------------------------------------------------------------------------
if [ "$node_needed" = yes ]; then
  [ -n "$node_package" ] || fail "there is no ready-made Node $NODE_MAJOR for $(uname -m). Install Node $NODE_MAJOR or newer and put it first on PATH."
  say "Fetching Node $NODE_VERSION into .toolchain (about 130 MB) ..."
  npm install --prefix .toolchain --no-save --no-package-lock --ignore-scripts --no-audit --no-fund --loglevel=error \
    "$node_package@$NODE_VERSION" 9>&- ||
    fail "npm could not fetch $node_package@$NODE_VERSION. Check the network and npm's registry setting, or install Node $NODE_MAJOR yourself."
  PATH="$node_folder:$PATH"
  export PATH
  node_is_new_enough "$node_folder/node" || fail "the fetched Node does not run: $node_folder/node. Is the system's C library older than glibc 2.28?"
fi

# --- npm packages ---------------------------------------------------------------------------------------------------
if [ "$packages_needed" = yes ]; then
  say "Installing npm packages ..."
  # No package here needs its install script: native parts arrive ready-made as optional packages.
  npm ci --ignore-scripts --no-audit --no-fund --loglevel=error 9>&- ||
    fail "npm ci failed; its messages are above. Check the network and npm's registry setting."
  printf '%s\n' "$lock_hash" >node_modules/.installed-lock
fi

# --- build ----------------------------------------------------------------------------------------------------------
# Folders count too: their time tells of removed files.
if [ ! -e dist/oak.cjs ] || [ -n "$(find src scripts/build.ts package.json package-lock.json -newer dist/oak.cjs -print -quit)" ]; then
  say "Building ..."
  node scripts/build.ts 9>&- || fail "the build failed; its messages are above."
fi
