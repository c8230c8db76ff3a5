#!/bin/bash
# quickstart.sh — builds Patchbay and shows its main job: a pod on three networks, traffic on each, nothing left behind.
# Everything happens in network and mount namespaces made for it, as root or as any user whom the system lets make them;
# they end with this process, however it ends.
set -u
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$root" || exit 1
PATH=$PATH:/usr/sbin:/sbin # an ordinary user's may lack them

# --- how to print -------------------------------------------------------------------------------------------------
case ${LC_ALL:-${LC_CTYPE:-${LANG:-}}} in *[Uu][Tt][Ff]8 | *[Uu][Tt][Ff]-8) export QUICKSTART_UNICODE=1 ;; *) unset QUICKSTART_UNICODE ;; esac
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then export QUICKSTART_COLOR=1; else unset QUICKSTART_COLOR; fi
tick=ok cross=!! frames=('|' / - \\)
[ -z "${QUICKSTART_UNICODE:-}" ] || { tick=✓ cross=✗ frames=(⠋ ⠙ ⠹ ⠸ ⠼ ⠴ ⠦ ⠧ ⠇ ⠏); }
paint() { [ -n "${QUICKSTART_COLOR:-}" ] && printf '\033[%sm%s\033[0m' "$1" "$2" || printf '%s' "$2"; }
now_ms() { local now=$EPOCHREALTIME; printf '%s' $((${now%[.,]*} * 1000 + 10#${now#*[.,]} / 1000)); }
stop() { printf '  %s %s\n' "$(paint 31 "$cross")" "$1" >&2; exit 1; }

# step TEXT COMMAND... — runs the command in silence, with a spinner on a terminal; what it printed is in $printed.
log=$(mktemp)
child=
tidy() { [ -z "$child" ] || kill "$child" 2> /dev/null; rm -f "$log" "$log.out"; }
trap tidy EXIT
trap 'exit 130' INT TERM
step() {
  local text=$1 begun end frame=0 status
  shift
  begun=$(now_ms)
  "$@" > "$log.out" 2> "$log" &
  child=$!
  if [ -t 1 ] && [ "${TERM:-dumb}" != dumb ]; then
    while kill -0 $child 2> /dev/null; do
      printf '\r  %s %s' "$(paint 36 "${frames[frame++ % ${#frames[@]}]}")" "$text"
      sleep 0.1
    done
    printf '\r\033[K'
  fi
  wait $child
  status=$?
  child=
  printed=$(cat "$log.out")
  end=$(now_ms)
  if [ $status != 0 ]; then
    printf '  %s %s\n' "$(paint 31 "$cross")" "$text"
    { cat "$log.out" "$log" | tail -n 25 | sed 's/^/      /'; } >&2
    return $status
  fi
  printf '  %s %-58s %9s\n' "$(paint 32 "$tick")" "$text" "$(took $((end - begun)))"
}
took() { if [ "$1" -ge 10000 ]; then printf '%d.%d s' $(($1 / 1000)) $(($1 % 1000 / 100)); else printf '%d ms' "$1"; fi; }

# --- what the system has to let us do -----------------------------------------------------------------------------
# Says in one sentence why a user namespace of ours has no rights.
why_no_namespace() {
  setting() { [ "$(cat "/proc/sys/$1" 2> /dev/null)" = "$2" ]; }
  if setting user/max_user_namespaces 0 || setting user/max_net_namespaces 0 || setting user/max_mnt_namespaces 0; then
    echo 'This system allows no new namespaces: run "sudo sysctl user.max_user_namespaces=10000 user.max_net_namespaces=10000 user.max_mnt_namespaces=10000", or "sudo npm run quickstart".'
  elif setting kernel/unprivileged_userns_clone 0; then
    echo 'This system keeps user namespaces to root: run "sudo sysctl kernel.unprivileged_userns_clone=1", or "sudo npm run quickstart".'
  elif setting kernel/apparmor_restrict_unprivileged_userns 1; then
    echo 'AppArmor gives a user namespace no rights here: run "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0", or "sudo npm run quickstart".'
  else
    echo 'This system gives a user namespace no rights (inside a container, its seccomp profile does that): run "sudo npm run quickstart".'
  fi
}
if am_root; then
  own=(unshare --net --mount --propagation private) who="root, in namespaces of its own"
else
  own=(unshare --user --map-root-user --net --mount --propagation private) who="$(id -un), in a user namespace"
fi

check_namespaces() { "${own[@]}" sh -c 'mount -t tmpfs quickstart /run && ip link set lo up'; }

# The Debian packages of what the steps below call and this system lacks.
missing_packages() {
  local command package
  {
    [ -e build/native/libwasmtime.so ] || python3 -m pip --version > /dev/null 2>&1 || echo python3-pip
    while read -r command package; do command -v "$command" > /dev/null || echo "$package"; done <<< 'unshare util-linux
nsenter util-linux
mount mount
flock util-linux
ip iproute2
ping iputils-ping
python3 python3
npm npm'
  } | sort -u | paste -sd ' '
}
install_packages() { apt_update && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; }

# The directory of a CNI binary that is not ours: Debian's package, or else the current release built by Go.
foreign_plugin() { bash scripts/peers.sh debian-cni || bash scripts/peers.sh reference; }

# --- the steps ----------------------------------------------------------------------------------------------------
printf '\n  %s  %s\n\n' "$(paint 1 'Patchbay quickstart')" "$(paint 2 "as $who")"

missing=$(missing_packages)
if [ -n "$missing" ]; then
  # shellcheck disable=SC2086 # a list of words
  if am_root && command -v apt-get > /dev/null; then step "apt-get install $missing" install_packages $missing || exit 1
  else stop "Commands are missing here: run \"sudo apt-get install $missing\"."; fi
fi
if ! check_namespaces 2> "$log"; then
  am_root || stop "$(why_no_namespace)"
  cat "$log" >&2
  stop 'Root may not make namespaces here: in a container, start it with "--privileged".'
fi

if [ -f node_modules/.package-lock.json ] && [ ! package-lock.json -nt node_modules/.package-lock.json ]; then step "npm packages" setup_node
else step "npm ci" setup_node; fi || stop "The packages of package-lock.json cannot be installed: see the lines above."
step "build dist/patchbay" bash scripts/build.sh || stop "The build failed: see the lines above."
step "fetch a CNI binary that is not ours" foreign_plugin \
  || stop 'No CNI binary can be had: "apt-get download containernetworking-plugins" (run "sudo apt-get update" first) and Go 1.24 both fail.'
export QUICKSTART_FOREIGN=${printed##*$'\n'}
tidy

# tmpfs over what Patchbay and the CNI binaries write to: the system's own stays as it is, and so do its pods.
exec "${own[@]}" sh -c 'mount -t tmpfs -o mode=755 quickstart /run && mount -t tmpfs -o mode=755 quickstart /var/lib && exec "$0" "$@"' \
  "$bun" scripts/quickstart.ts
