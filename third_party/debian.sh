#!/usr/bin/env bash
# third_party/debian.sh PACKAGE... - puts the content of Debian packages under .venv/debian, where
# CMake and the demo look after the system itself. Needs apt and dpkg, not root; installs nothing
# into the system and follows no dependencies. A package that is there already costs nothing.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
prefix=$root/.venv/debian
say() { echo "debian.sh: $*" >&2; }

if [[ $# -eq 0 ]]; then
  say "expected names of Debian packages, got none"
  exit 2
fi

missing=()
for package in "$@"; do
  [[ -e $prefix/.have/$package ]] || missing+=("$package")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

for tool in apt-get apt-cache dpkg; do
  if ! command -v "$tool" >/dev/null; then
    say "no $tool here: install ${missing[*]} (or what your system calls it) by its own means"
    exit 1
  fi
done

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
options=(-q -o APT::Sandbox::User=root)

known() { apt-cache "${options[@]}" show --no-all-versions "$@" >/dev/null 2>&1; }

if ! known "${missing[@]}"; then
  if [[ $(id -u) -ne 0 ]]; then
    # Lists of our own: the system's belong to root.
    mkdir -p "$prefix/apt/lists/partial" "$prefix/apt/cache/archives/partial"
    options+=(-o "Dir::State::Lists=$prefix/apt/lists" -o "Dir::Cache=$prefix/apt/cache")
  fi
  if ! known "${missing[@]}"; then
    say "fetching package lists"
    apt-get "${options[@]}" update >"$scratch/log" 2>&1 || { cat "$scratch/log" >&2; }
  fi
  if ! known "${missing[@]}"; then
    say "apt knows no package of these names: ${missing[*]} (or there is no network)"
    exit 1
  fi
fi

for package in "${missing[@]}"; do
  say "fetching $package"
  mkdir -p "$scratch/$package"
  fetch() { (cd "$scratch/$package" && apt-get "${options[@]}" download "$package") >"$scratch/log" 2>&1; }
  # Lists that are old name versions that are gone: then once more with fresh ones.
  if ! fetch && ! { apt-get "${options[@]}" update >/dev/null 2>&1 && fetch; }; then
    cat "$scratch/log" >&2
    say "could not download $package: is there a network?"
    exit 1
  fi
  mkdir -p "$prefix/.have"
  dpkg -x "$scratch/$package/"*.deb "$prefix"
  touch "$prefix/.have/$package"
done
