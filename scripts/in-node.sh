#!/bin/bash
# in-node.sh CMD ARGS... — runs a command on a "node" of its own: network, mount, process, IPC and host name namespaces
# made for it, with empty /run/netns, /run/patchbay, /var/lib/patchbay, /var/lib/cni and /etc/cni. What the tests make,
# break or forget stays inside and ends with the command. Needs root.
set -eu
if [ "${1:-}" != --inside ]; then
  here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
  [ "$(id -u)" = 0 ] || { echo "in-node.sh: needs root" >&2; exit 2; }
  exec unshare --net --mount --uts --ipc --pid --fork --kill-child --mount-proc --propagation private bash "$here/in-node.sh" --inside "$@"
fi
shift
hostname node
# A sysfs of this network namespace, with the control groups where they were.
held=$(mktemp -d)
mount --rbind /sys/fs/cgroup "$held"
mount -t sysfs sysfs /sys
mount --rbind "$held" /sys/fs/cgroup
umount -l "$held" && rmdir "$held"
for directory in /run/netns /run/patchbay /run/cni /run/containerd /var/lib/patchbay /var/lib/cni /etc/patchbay /etc/cni /run/k8s.cni.cncf.io; do
  mkdir -p "$directory"
  mount -t tmpfs -o mode=755 node "$directory"
done
mount --make-shared /run/netns
ip link set lo up
export PATCHBAY_NODE=1
# Not exec: this shell is process 1 here and collects orphans, as a node's init does.
"$@"
