#!/bin/sh
# First process of a machine made of namespaces: makes them look like a machine of its own, and then only reaps. When it dies,
# everything inside dies with it, and every mount and network namespace goes.
#   host-init.sh enter|inside <cgroup> <folder> <host name> [<path>...]   a host; the paths stay visible where they are
#   host-init.sh router <name> <folder>                                   only a network, which forwards
set -eu
stage=$1 name=$2 folder=$3

reap() {
  echo ready
  # The shell reaps whatever loses its parent.
  while :; do
    sleep 3600 &
    wait $! || true
  done
}

if [ "$stage" = router ]; then
  echo 1 >/proc/sys/net/ipv4/ip_forward
  # Nothing here speaks IPv6, and its announcements would wake who carries the links.
  for interfaces in all default; do
    file=/proc/sys/net/ipv6/conf/$interfaces/disable_ipv6
    [ ! -e "$file" ] || echo 1 >"$file"
  done
  reap
fi

shift 3
if [ "$stage" = enter ]; then
  # Own cgroups first; the namespace made after that has them as its roots.
  grep -E ' - cgroup2? ' /proc/self/mountinfo | while read -r _ _ _ _ mount _; do
    mkdir -p "$mount/$name"
    for file in cpuset.mems cpuset.cpus; do
      if [ -e "$mount/$name/$file" ] && [ -z "$(cat "$mount/$name/$file")" ]; then
        cat "$mount/$file" >"$mount/$name/$file" 2>/dev/null || cat "$mount/$file.effective" >"$mount/$name/$file"
      fi
    done
    echo $$ >"$mount/$name/cgroup.procs"
  done
  exec unshare --cgroup -- sh "$0" inside "$name" "$folder" "$@"
fi

hostname "$1" 2>/dev/null || true
shift
resolv=$(readlink -f /etc/resolv.conf)
cp "$resolv" "$folder/resolv.conf" 2>/dev/null || : >"$folder/resolv.conf"

grep -E ' - cgroup2? ' /proc/self/mountinfo >"$folder/cgroup-mounts"
while read -r line; do
  mount=$(echo "$line" | cut -d' ' -f5)
  type=$(echo "${line#* - }" | cut -d' ' -f1)
  options=$(echo "${line#* - }" | cut -d' ' -f3 | sed 's/^rw,\{0,1\}//')
  umount -l "$mount"
  if [ "$type" = cgroup2 ]; then
    mount -t cgroup2 none "$mount"
    # A cgroup with processes of its own cannot give controllers to its children.
    mkdir -p "$mount/init" && echo 0 >"$mount/init/cgroup.procs"
  else
    case "$options" in name=*) options="none,$options" ;; esac
    mount -t cgroup -o "$options" none "$mount"
  fi
done <"$folder/cgroup-mounts"

# Folders of its own cover the machine's. What must stay visible below them is bound into them first; the paths are relative, and
# taken as they are, since the first cover may hide this very folder.
cd "$folder"
mkdir -p run var-lib var-log root
mount -t tmpfs -o mode=755 none run
mkdir -p run/lock
for path in "$folder" "$@"; do
  case "$path" in
    /run/*) inside=run/${path#/run/} ;;
    /var/lib/*) inside=var-lib/${path#/var/lib/} ;;
    /var/log/*) inside=var-log/${path#/var/log/} ;;
    /root/*) inside=root/${path#/root/} ;;
    *) continue ;;
  esac
  mkdir -p "$inside"
  mount --bind "$path" "$inside"
done
mount -c --rbind run /run
mkdir -p "$(dirname "$resolv")"
[ -e "$resolv" ] || cp resolv.conf "$resolv"
mount -c --rbind var-lib /var/lib
mount -c --rbind var-log /var/log
mount -c --rbind root /root
ip link set lo up
reap
