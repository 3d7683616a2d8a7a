#!/bin/sh
# First process of a lab host: runs in new mount, network, PID, UTS and IPC namespaces, makes them look like a machine of its
# own, and then only reaps. When it dies, everything inside dies with it, and every mount and network namespace goes.
#   lab-host-init.sh enter|inside <name> <folder>
set -eu
stage=$1 name=$2 folder=$3

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
  exec unshare --cgroup -- sh "$0" inside "$name" "$folder"
fi

hostname "$name" 2>/dev/null || true
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

mount -t tmpfs -o mode=755 none /run
mkdir -p /run/lock "$(dirname "$resolv")"
[ -e "$resolv" ] || cp "$folder/resolv.conf" "$resolv"
mkdir -p "$folder/var-lib" "$folder/var-log" "$folder/root"
mount --bind "$folder/var-lib" /var/lib
mount --bind "$folder/var-log" /var/log
mount --bind "$folder/root" /root
ip link set lo up

echo ready
# The shell reaps whatever loses its parent.
while :; do
  sleep 3600 &
  wait $! || true
done
