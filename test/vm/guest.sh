#!/bin/bash
# guest.sh [OPTION...] COMMAND ARGS... — runs a command as root on a machine of its own: QEMU without KVM, one of Debian's
# kernels, this machine's files below a file system in memory that takes all changes. Output and status are the command's;
# 124 when the time ran out, 125 when the guest died, 3 when there is no guest here (build.sh). Needs no root.
#   --kernel 6.1    a kernel whose version begins so (6.12)
#   --cards N       network cards with seven virtual functions each (Intel 82576), all on one hub
#   --iommu         what vfio needs
#   --disk FILE     holds /var/lib/patchbay, so that a second guest can begin where the first ended; made when absent
#   --append WORDS  for the kernel's command line
#   --report FILE   takes what the command wrote to /run/report
#   --seconds N     the time it may take (300)
set -eu
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kernel=6.12 cards=0 iommu= disk= append= report= seconds=300
while :; do
  case ${1:-} in
    --iommu) iommu=yes; shift ;;
    --kernel | --cards | --disk | --append | --report | --seconds) printf -v "${1#--}" %s "$2"; shift 2 ;;
    -*) echo "guest.sh: no option $1" >&2; exit 2 ;;
    *) break ;;
  esac
done
[ $# -gt 0 ] || { echo "guest.sh: no command" >&2; exit 2; }
cache=$(bash "$here/build.sh") || exit
kernels=("$cache/kernel/$kernel"[.-]*)
kernel=${kernels[0]}
[ -e "$kernel/vmlinux" ] || { echo "guest.sh: no kernel ${kernel##*/} in $cache/kernel" >&2; exit 2; }
root=$(cd "$here/../.." && pwd)

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
tree=$cache/tree libraries=$cache/tree/lib/x86_64-linux-gnu:$cache/tree/usr/lib/x86_64-linux-gnu
in_tree() { "$tree/lib64/ld-linux-x86-64.so.2" --library-path "$libraries" "$@"; }

# A second archive after the first: the kernel reads both.
{ cat "$kernel/initial.cpio"; (cd "$here/guest" && echo init | in_tree "$tree/bin/cpio" -o -H newc --quiet); } > "$scratch/initial"

words=("$PWD")
while IFS= read -r -d '' pair; do
  case $pair in HOME=* | XDG_CACHE_HOME=* | PATCHBAY_*=*) words+=("$pair") ;; esac
done < <(env -0)
words+=(PATCHBAY_NODE=1 PATCHBAY_GUEST=1 LANG=C.UTF-8 TERM=dumb PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@")
printf '%s\0' "${#words[@]}" "${words[@]}" > "$scratch/command"
: > "$scratch/status"

# The processor's counter is measured at boot, and wrongly on a busy machine: minutes would pass in seconds.
line="console=ttyS0 panic=-1 nokaslr mitigations=off clocksource=acpi_pm tsc=unstable lapic=notscdeadline no_timer_check quiet loglevel=4 audit=0"
line+=" guest.cache=$cache guest.main=$here/guest/main guest.keep=$root,$cache,$PWD $append"
machine=(-machine q35,usb=off,smm=off,vmport=off,graphics=off,hpet=off -accel tcg,thread=multi -cpu max -smp 1 -m 1536
  -nodefaults -no-user-config -display none -no-reboot -monitor none -L "$tree/usr/share/qemu" -L "$tree/usr/share/seabios")
[ -z "$iommu" ] || { machine+=(-device intel-iommu); line+=" intel_iommu=on iommu=pt"; }
for ((i = 1; i <= cards; i++)); do
  printf -v address '52:54:00:ab:00:%02x' "$i"
  printf -v slot '0x%x' $((i + 7))
  machine+=(-device "pcie-root-port,id=port$i,chassis=$i,slot=$i,addr=$slot" -netdev "hubport,id=net$i,hubid=0"
    -device "igb,bus=port$i,netdev=net$i,mac=$address,romfile=")
done
if [ -n "$disk" ]; then
  [ -s "$disk" ] || { truncate -s 64M "$disk"; in_tree "$tree/sbin/mke2fs" -q -t ext4 -F "$disk"; }
  machine+=(-drive "if=none,id=disk,file=$disk,format=raw,cache=unsafe" -device virtio-blk-pci,drive=disk)
fi
port() { ports+=(-chardev "$2,id=$1" -device "virtserialport,chardev=$1,name=guest.$1"); }
ports=(-device virtio-serial-pci,ioeventfd=off)
port stdout file,path=/dev/fdset/1,append=on
port stderr file,path=/dev/fdset/2,append=on
port status "file,path=$scratch/status"
port report "file,path=${report:-/dev/null}"
port command "file,path=/dev/null,input-path=$scratch/command"

# QEMU takes descriptors only if they are open for writing alone; ours may be a terminal or a socket.
exec 7> >(exec cat); out=$!
exec 8> >(exec cat >&2); err=$!
ended=0
# A guest does not outlive the one who waits for it.
timeout --kill-after=5 "$seconds" setpriv --pdeathsig KILL \
  "$tree/lib64/ld-linux-x86-64.so.2" --library-path "$libraries" "$tree/usr/bin/qemu-system-x86_64" "${machine[@]}" \
  -kernel "$kernel/vmlinux" -initrd "$scratch/initial" -append "$line" -serial "file:$scratch/console" \
  -fsdev local,id=files,path=/,security_model=none,readonly=on,multidevs=remap -device virtio-9p-pci,fsdev=files,mount_tag=root \
  -add-fd fd=7,set=1 -add-fd fd=8,set=2 "${ports[@]}" -device isa-debug-exit,iobase=0xf4,iosize=0x1 < /dev/null 2> "$scratch/qemu" || ended=$?
exec 7>&- 8>&-
wait $out $err || true
status=$(cat "$scratch/status")
[ "$status" != 0 ] || exit 0
[ ! -e "$scratch/console" ] || tail -n 100 "$scratch/console" >&2
[ -z "$status" ] || exit "$status"
cat "$scratch/qemu" >&2
[ $ended != 124 ] && [ $ended != 137 ] || { echo "guest.sh: not done after $seconds s" >&2; exit 124; }
echo "guest.sh: the guest died, QEMU with status $ended" >&2
exit 125
