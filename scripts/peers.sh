#!/bin/bash
# peers.sh [PART...] — brings what Patchbay is compared with and tested under, into the cache, and prints one
# `part directory` line for each: parts are debian-cni reference multus floor runner containerd runc busybox firewalld.
# Nothing is installed. A part that cannot be had here is left out, with the reason on stderr; the status is then 1.
set -u
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
[ $# -gt 0 ] || set -- debian-cni reference multus floor runner containerd runc busybox firewalld
status=0
for part; do
  case $part in
    debian-cni) tree=$(debian_package containernetworking-plugins) && dir=$tree/usr/lib/cni ;;
    containerd) tree=$(debian_package containerd) && dir=$tree/usr/bin ;;
    runc) tree=$(debian_package runc) && dir=$tree/usr/sbin ;;
    busybox) tree=$(debian_package busybox-static) && dir=$tree/bin ;;
    firewalld) # with a bus and its libraries; Python itself and nftables are the system's
      dir=$(debian_tree firewalld firewalld python3-firewall python3-dbus python3-gi python3-nftables python3-jsonschema \
        dbus-daemon dbus-bin gir1.2-glib-2.0 libgirepository-1.0-1 libglib2.0-0 libdbus-1-3 libexpat1 libapparmor1 libnftables1) ;;
    reference) # the tool directives of the module are the list of what is built
      mapfile -t tools < <(sed -n 's/^\t\(github.com\/containernetworking\/[^ ]*\)$/\1/p' "$root/test/peers/go.mod")
      dir=$(go_tools "$root/test/peers" reference "${tools[@]}") ;;
    multus) dir=$(go_tools "$root/test/peers/multus" multus gopkg.in/k8snetworkplumbingwg/multus-cni.v4/cmd/multus) ;;
    floor) dir=$(go_tools "$root/bench/floor" floor .) ;;
    runner) dir=$(go_tools "$root/bench/runner" runner .) ;;
    *) say "peers.sh: no part named $part"; exit 2 ;;
  esac && printf '%s %s\n' "$part" "$dir" || { status=1; continue; }
  case $part in
    containerd | runc) # unpacked, not installed: say here which library is missing, not in a daemon's log
      for binary in "$dir"/*; do
        lost=$(ldd "$binary" 2> /dev/null | awk '/not found/ {print $1}')
        [ -z "$lost" ] || { say "$part: $binary needs ${lost//$'\n'/ }, which this system lacks"; status=1; }
      done ;;
  esac
done
exit $status
