# Sourced by the other scripts: where things are, and functions that bring what is missing. Works as root and as an
# ordinary user; what only root can bring is left out for others, and the tests that need it say so.
# shellcheck shell=bash
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/patchbay
bun=$root/scripts/bun.sh
mkdir -p "$cache"

say() { printf '%s\n' "$*" >&2; }
am_root() { [ "$(id -u)" = 0 ]; }

# What npm brings, as the lock file has it; again when the lock changed. Another checkout's, lent by a link, is left alone:
# npm would empty it.
setup_node() {
  [ -L "$root/node_modules" ] && return
  local stamp=$root/node_modules/.package-lock.json
  [ -f "$stamp" ] && [ ! "$root/package-lock.json" -nt "$stamp" ] && "$bun" --version > /dev/null 2>&1 && return
  say "npm ci"
  (cd "$root" && npm ci --no-audit --no-fund)
  touch "$stamp"
}

# Runs apt-get update at most once a run, and only when something has to be fetched.
apt_updated=
apt_update() {
  [ -z "$apt_updated" ] || return 0
  apt_updated=yes
  say "apt-get update"
  apt-get update -qq || say "apt-get update failed; going on with the lists at hand"
}

# Command and package, one pair a line: what the tests run. No daemon among them: installing one would start it
# (dnsmasq-base is the program alone).
apt_needs='nft nftables
ip iproute2
tc iproute2
bridge iproute2
ping iputils-ping
strace strace
dnsmasq dnsmasq-base
iptables iptables
ldd libc-bin
setpriv util-linux
nsenter util-linux
openssl openssl
python3 python3
pip3 python3-pip'

# Packages that tests need; root on a system with apt only.
setup_packages() {
  am_root && command -v apt-get > /dev/null || return 0
  local missing=() command package
  while read -r command package; do
    command -v "$command" > /dev/null || missing+=("$package")
  done <<< "$apt_needs"
  [ -e /usr/lib/*-linux-gnu/libseccomp.so.2 ] || missing+=(libseccomp2)
  [ ${#missing[@]} -gt 0 ] || return 0
  apt_update
  say "apt-get install ${missing[*]}"
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
}

# debian_package NAME — prints the directory in the cache that holds the unpacked package. It is never installed:
# installing a daemon starts it, and another version may be installed already.
debian_package() {
  local name=$1 version dir work
  command -v apt-get > /dev/null && command -v dpkg-deb > /dev/null || { say "$name: needs apt-get and dpkg-deb"; return 1; }
  version=$(apt_version "$name")
  if [ -z "$version" ] && am_root; then apt_update; version=$(apt_version "$name"); fi
  [ -n "$version" ] || { say "$name: apt knows no such package (run apt-get update as root)"; return 1; }
  dir=$cache/debian/$name/${version//:/_} # a colon cannot stand in CNI_PATH
  if [ ! -e "$dir/.whole" ]; then
    work=$(mktemp -d "$cache/debian.XXXXXX")
    if ! (cd "$work" && { apt-get -o APT::Sandbox::User=root download -qq "$name=$version" >&2 || { am_root && apt_update && apt-get -o APT::Sandbox::User=root download -qq "$name=$version" >&2; }; }); then
      rm -rf "$work"; say "$name: download failed"; return 1
    fi
    mkdir "$work/tree" && dpkg-deb -x "$work"/*.deb "$work/tree" && touch "$work/tree/.whole"
    mkdir -p "${dir%/*}"; rm -rf "$dir"; chmod 755 "$work/tree"; mv -T "$work/tree" "$dir" && rm -rf "$work"
  fi
  printf '%s\n' "$dir"
}
apt_version() { apt-cache show --no-all-versions "$1" 2> /dev/null | sed -n 's/^Version: //p' | head -n 1; }

# debian_tree NAME PACKAGE... — prints the directory in the cache that holds several packages, unpacked over each other, for
# a program with libraries that need not be installed here.
debian_tree() {
  local name=$1 package tree dir work
  local -a trees=()
  shift
  for package; do
    tree=$(debian_package "$package") || return 1
    trees+=("$tree")
  done
  dir=$cache/debian-trees/$name-$(printf '%s\n' "${trees[@]}" | sha256sum | cut -c 1-16)
  if [ ! -e "$dir/.whole" ]; then
    work=$(mktemp -d "$cache/tree.XXXXXX")
    for tree in "${trees[@]}"; do cp -a "$tree/." "$work/" || { rm -rf "$work"; return 1; }; done
    mkdir -p "${dir%/*}"; rm -rf "$dir"; chmod 755 "$work"; mv -T "$work" "$dir"
  fi
  printf '%s\n' "$dir"
}

# Prints the path of a Go: one of at least 1.24 in PATH, else Debian's newest from the backports of the mirror that this
# system uses already, unpacked into the cache; that one fetches the version that a go.mod asks for (GOTOOLCHAIN=auto).
find_go() {
  local go version
  if go=$(command -v go) && version=$(GOTOOLCHAIN=local go env GOVERSION 2> /dev/null); then
    [ "$(printf '%s\n' go1.24 "$version" | sort -V | head -n 1)" = go1.24 ] && { printf '%s\n' "$go"; return; }
  fi
  for go in "$cache"/debian-backports/usr/lib/go-*/bin/go; do [ -x "$go" ] && { printf '%s\n' "$go"; return; }; done
  backported_go
}
backported_go() {
  local codename work package deb
  codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
  work=$cache/debian-backports.new
  rm -rf "$work"
  mkdir -p "$work/tree" "$work/debs"
  apt_of "$work" "$codename-backports" || return 1
  package=$(apt-cache "${apt_of[@]}" search '^golang-1[.][0-9]+-go$' | cut -d ' ' -f 1 | sort -V | tail -n 1)
  [ -n "$package" ] || return 1
  say "$package from $codename-backports"
  (cd "$work/debs" && apt-get -qq "${apt_of[@]}" download "$package" "${package%-go}-src" >&2) || return 1
  for deb in "$work"/debs/*.deb; do dpkg-deb -x "$deb" "$work/tree" || return 1; done
  rm -rf "$cache/debian-backports"
  mv "$work/tree" "$cache/debian-backports" && rm -rf "$work"
  printf '%s\n' "$cache"/debian-backports/usr/lib/go-*/bin/go
}

# apt_of DIRECTORY SUITE... — sets the array `apt_of` to options with which apt knows the main part of these suites and
# nothing else, from the mirror that this system uses already. Its lists are in DIRECTORY; the system's stay as they are.
apt_of() {
  local directory=$1 mirror suite
  shift
  command -v apt-get > /dev/null && command -v dpkg-deb > /dev/null || return 1
  # shellcheck disable=SC2016 # the words are apt's
  mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' 2> /dev/null \
    | awk -v c="$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")" '$2 == c && $3 == "main" {print $1; exit}')
  [ -n "$mirror" ] || return 1
  mkdir -p "$directory/lists/partial"
  # The mirror's packages are signed by the keys that the system's own list has.
  for suite; do echo "deb $mirror $suite main"; done > "$directory/sources.list"
  apt_of=(-o "Dir::Etc::SourceList=$directory/sources.list" -o Dir::Etc::SourceParts=- -o "Dir::State::Lists=$directory/lists" -o APT::Sandbox::User=root)
  apt-get -qq "${apt_of[@]}" update >&2
}

# go_tools DIRECTORY NAME PACKAGE... — builds the commands of one Go module into the cache, once for each state of its
# sources and locks, and prints where they are.
go_tools() {
  local module=$1 name=$2 key dir work go package
  shift 2
  key=$(cd "$module" && { find . -maxdepth 1 -type f \( -name 'go.*' -o -name '*.go' \) | LC_ALL=C sort | xargs sha256sum; printf '%s\n' "$@"; } | sha256sum | cut -c 1-16)
  dir=$cache/go/$name-$key
  if [ ! -e "$dir/.whole" ]; then
    go=$(find_go) || { say "$name: needs Go 1.24 or later"; return 1; }
    say "go build $name"
    work=$(mktemp -d "$cache/go.XXXXXX")
    for package; do
      (cd "$module" && CGO_ENABLED=0 GOTOOLCHAIN=auto GOWORK=off GOFLAGS='-mod=readonly -trimpath -buildvcs=false' \
        nice -n 10 "$go" build -o "$work/" "$package") >&2 || { rm -rf "$work"; return 1; }
    done
    touch "$work/.whole"; chmod 755 "$work"; mkdir -p "${dir%/*}"; rm -rf "$dir"; mv -T "$work" "$dir"
  fi
  printf '%s\n' "$dir"
}
