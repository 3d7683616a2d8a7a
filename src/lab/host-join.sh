#!/bin/sh
# Runs inside a lab host: joins the host's cgroups (entering its namespaces does not) and becomes the program given.
for procs in /sys/fs/cgroup/*/init/cgroup.procs /sys/fs/cgroup/init/cgroup.procs /sys/fs/cgroup/*/cgroup.procs; do
  [ -e "$procs" ] || continue
  case "$procs" in */init/*) ;; *) [ ! -e "${procs%/*}/init" ] || continue ;; esac
  echo 0 >"$procs" 2>/dev/null || true
done
exec "$@"
