#!/bin/bash
# build.sh — brings the guest into the cache and prints its directory: QEMU with all that it is linked to, two of Debian's
# kernels with the modules that tests use, and an initial file system for each. Everything is unpacked, nothing is installed,
# and root is not needed. Status 3 when it cannot be had here; the last line of stderr is then what is missing.
set -eu
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../../scripts/setup.sh"
lacking() { say "$1"; exit 3; }

# The newest of each is taken, once: the cache is made again when it is gone or when this script changes.
kernels=('^linux-image-6[.]12[.][0-9.]+[+]deb12-amd64$' '^linux-image-6[.]1[.]0-[0-9]+-amd64$')
programs=(qemu-system-x86 busybox-static kmod cpio zstd xz-utils e2fsprogs)
# Kept of a kernel's modules: what networks, devices that QEMU has, and the guest's own file systems can need.
kept='kernel/(net|lib|crypto|arch/x86/crypto|fs/(9p|netfs|fscache|overlayfs|ext4|jbd2|mbcache[.]ko|fuse)|virt/lib'
kept+='|drivers/(net/[^/]*[.]ko|net/(vxlan|ipvlan|bonding|team|wireguard|ethernet/intel/igb(vf)?)|virtio|block/virtio_blk[.]ko|char/virtio_console[.]ko'
kept+='|vfio|iommu|i2c/algos|dca|ptp|pps))'
# What the first stage of the guest loads, each with what it depends on.
first=(virtio_pci virtio_console 9p 9pnet_virtio overlay virtio_blk ext4)

key=$(sha256sum < "${BASH_SOURCE[0]}" | cut -c 1-16)
dir=$cache/vm-$key
[ -e "$dir/.whole" ] && { printf '%s\n' "$dir"; exit; }
[ "$(uname -m)" = x86_64 ] || lacking "an x86_64 machine"
command -v apt-get > /dev/null && command -v dpkg-deb > /dev/null || lacking "apt"
exec 9> "$cache/vm.lock"
flock 9
[ -e "$dir/.whole" ] && { printf '%s\n' "$dir"; exit; }

work=$(mktemp -d "$cache/vm.XXXXXX")
trap 'rm -rf "$work"' EXIT
apt_of "$work/apt" bookworm bookworm-backports || lacking "a mirror of Debian 12"

# As if nothing were installed, so that the tree holds every library, whatever this machine has.
: > "$work/apt/status"
mkdir -p "$work/apt/archives/partial" "$work/tree"
say "$(printf '%s ' "${programs[@]}")from Debian 12 and its backports"
apt-get "${apt_of[@]}" -o "Dir::State::status=$work/apt/status" -o "Dir::Cache::archives=$work/apt/archives" -o Debug::NoLocking=1 \
  -qq -y --no-install-recommends --download-only -t bookworm-backports install "${programs[@]}" > "$work/log" 2>&1 \
  || { cat "$work/log" >&2; lacking "packages of Debian 12"; }
for deb in "$work"/apt/archives/*.deb; do dpkg-deb -x "$deb" "$work/tree"; done
rm -rf "$work"/apt/archives "$work"/tree/usr/share/{doc,man,locale,info}
# tool NAME PATH ARGS... — a program of the tree under the name it goes by, with the tree's own libraries.
tool() {
  local name=$1 path=$2 libraries=lib/x86_64-linux-gnu
  shift 2
  "$work/tree/lib64/ld-linux-x86-64.so.2" --argv0 "$name" --library-path "$work/tree/$libraries:$work/tree/usr/$libraries" "$work/tree/$path" "$@"
}

# unpack IMAGE — the kernel within a bzImage. Where it is says the header (Documentation/arch/x86/boot.rst): setup_sects at
# 0x1f1, payload_offset and payload_length at 0x248; the payload ends with four bytes that hold its size.
unpack() {
  local sectors offset length
  sectors=$(od -An -tu1 -j $((0x1f1)) -N 1 "$1")
  read -r offset length < <(od -An -tu4 -j $((0x248)) -N 8 "$1")
  tail -c +$(((sectors + 1) * 512 + offset + 1)) "$1" | head -c $((length - 4)) > "$work/payload"
  case $(od -An -tx1 -N 4 "$work/payload") in
    ' fd 37 7a 58') tool xz usr/bin/xz -dc < "$work/payload" ;;
    ' 28 b5 2f fd') tool zstd usr/bin/zstd -dcq < "$work/payload" ;;
    *) lacking "a kernel packed by xz or zstd" ;;
  esac
}

for pattern in "${kernels[@]}"; do
  package=$(apt-cache "${apt_of[@]}" search "$pattern" | cut -d ' ' -f 1 | sort -V | tail -n 1)
  [ -n "$package" ] || lacking "a kernel of Debian 12 named $pattern"
  release=${package#linux-image-}
  say "$package"
  (cd "$work" && apt-get "${apt_of[@]}" -qq download "$package" >&2) || lacking "$package"
  kernel=$work/kernel/$release
  mkdir -p "$kernel/initial"/{bin,dev,proc,sys,modules,host,writable,root}
  dpkg-deb --fsys-tarfile "$work/$package"_*.deb | tar -x -C "$kernel" ./boot ./lib/modules
  rm "$work/$package"_*.deb
  modules=$kernel/lib/modules/$release
  (cd "$modules" && find kernel -name '*.ko*' | grep -vE "^$kept" | xargs rm -f)
  find "$modules" -name '*.ko.xz' -print0 > "$work/packed"
  [ ! -s "$work/packed" ] || tool xz usr/bin/xz -d --files0="$work/packed"
  tool depmod bin/kmod -b "$kernel" "$release"
  # What QEMU starts is unpacked here, since emulated code takes long for it.
  unpack "$kernel/boot/vmlinuz-$release" > "$kernel/vmlinux"
  rm -r "$kernel/boot"

  for module in "${first[@]}"; do
    tool modprobe bin/kmod -d "$kernel" -S "$release" --show-depends "$module"
  done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' > "$work/order"
  number=10
  while read -r file; do cp "$file" "$kernel/initial/modules/$((number++))-${file##*/}"; done < "$work/order"
  cp "$work/tree/bin/busybox" "$kernel/initial/bin/"
  (cd "$kernel/initial" && find . -print0 | tool cpio bin/cpio -0 -o -H newc --quiet > ../initial.cpio)
  rm -r "$kernel/initial"
done

chmod -R go+rX "$work"
rm -rf "$work"/{apt,log,order,packed,payload}
rm -rf "$dir"; mv -T "$work" "$dir"; touch "$dir/.whole"
# Earlier ones.
find "$cache" -maxdepth 1 -name 'vm-*' ! -path "$dir" -exec rm -rf {} +
printf '%s\n' "$dir"
