#!/bin/bash
# native.sh — brings the two shared objects that the binary carries, as the lock files pin them, into build/native:
# libwasmtime.so out of wasmtime's wheel, libgcc_s.so.1 out of Debian's package. Prints the directory of the wheel's
# declarations, which scripts/generated-fresh.sh reads. Downloads are kept in the cache, outside the checkout.
set -eu
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$root"
die() { say "$1"; exit 1; }

case $(uname -m) in
  x86_64) tag=manylinux1_x86_64 debian=amd64 ;;
  aarch64 | arm64) tag=manylinux2014_aarch64 debian=arm64 ;;
  *) die "Cannot build for $(uname -m): only x86_64 and aarch64" ;;
esac

wheel_lock=scripts/wasmtime.lock
wheel=$cache/wasmtime-$(sha256sum < $wheel_lock | cut -c 1-16)-$tag
if [ ! -e "$wheel/.whole" ]; then
  command -v python3 > /dev/null || die "Cannot fetch wasmtime: python3 with pip is missing"
  say "$(sed -n 's/^\(wasmtime==[^ ]*\).*/\1/p' $wheel_lock)"
  work=$(mktemp -d "$cache/wasmtime.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  python3 -m pip --disable-pip-version-check --quiet download --require-hashes --no-deps --only-binary=:all: \
    --platform $tag --dest "$work" -r $wheel_lock > "$work/log" 2>&1 \
    || { cat "$work/log" >&2; die "Cannot fetch the wheel that $wheel_lock pins"; }
  mkdir "$work/tree"
  python3 -m zipfile -e "$work"/*.whl "$work/tree"
  mv "$work"/tree/wasmtime/linux-*/_libwasmtime.so "$work/tree/libwasmtime.so"
  # Symbols for debuggers are a fifth of it. What the loader reads stays.
  if command -v strip > /dev/null; then strip --strip-unneeded "$work/tree/libwasmtime.so"; fi
  touch "$work/tree/.whole"
  rm -rf "$wheel"; mv -T "$work/tree" "$wheel"
fi

gcc_lock=scripts/libgcc.lock
version=$(sed -n 's/^version //p' $gcc_lock)
sum=$(sed -n "s/^$debian //p" $gcc_lock)
gcc=$cache/libgcc-s1-${version//:/_}-$debian
if [ ! -e "$gcc/.whole" ]; then
  command -v apt-get > /dev/null && command -v dpkg-deb > /dev/null \
    || die "Cannot fetch libgcc-s1 $version ($gcc_lock): needs apt-get and dpkg-deb"
  say "libgcc-s1 $version"
  work=$(mktemp -d "$cache/libgcc.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  fetch() { (cd "$work" && apt-get -o APT::Sandbox::User=root -qq download "libgcc-s1=$version" > log 2>&1); }
  fetch || { am_root && apt_update && fetch; } || {
    cat "$work/log" >&2
    die "Cannot fetch libgcc-s1 $version: this system's sources do not serve it. Pin another one in $gcc_lock"
  }
  echo "$sum  $(echo "$work"/*.deb)" | sha256sum --check --status \
    || die "Cannot use libgcc-s1 $version: the package is not the one that $gcc_lock pins"
  mkdir "$work/deb" "$work/tree"
  dpkg-deb -x "$work"/*.deb "$work/deb"
  find "$work/deb" -name libgcc_s.so.1 -exec cp {} "$work/tree/" \;
  [ -s "$work/tree/libgcc_s.so.1" ] || die "Cannot use libgcc-s1 $version: it holds no libgcc_s.so.1"
  touch "$work/tree/.whole"
  rm -rf "$gcc"; mv -T "$work/tree" "$gcc"
fi

# copy FROM TO — only when it differs, so that what is built from it stays as it is.
copy() { cmp -s "$1" "$2" || { cp "$1" "$2.new"; chmod 644 "$2.new"; mv "$2.new" "$2"; }; }
mkdir -p build/native
copy "$wheel/libwasmtime.so" build/native/libwasmtime.so
copy "$gcc/libgcc_s.so.1" build/native/libgcc_s.so.1
printf '%s\n' "$wheel/wasmtime"
