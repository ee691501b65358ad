#!/bin/sh
# Makes an image in the place of python:3.11-slim where no registry of images can be reached: Debian with its own
# Python 3.11, from Debian's packages. It is not the public image: its Debian may be another, and its Python is /usr/bin's.
#
#   base.sh CACHE   imports it into the engine of $DOCKER_HOST as python:3.11-slim; CACHE keeps it for the next time
set -eu
name=python:3.11-slim
suite=bookworm
cache=$1
# The packages below decide what is in it; another list makes another file.
archive=$cache/stand-in-$(cksum < "$0" | cut -d' ' -f1).tar
if ! [ -f "$archive" ]; then
  for command in debootstrap chroot; do
    command -v "$command" > /dev/null || { echo "error: $command is missing: apt-get install $command" >&2; exit 2; }
  done
  mkdir -p "$cache/packages"
  root=$(mktemp -d "$cache/root.XXXXXX")
  trap 'rm -rf "$root"' EXIT
  debootstrap --variant=minbase --cache-dir="$(cd "$cache/packages" && pwd)" \
    --include=python3,python3-venv,python3-pip,ca-certificates "$suite" "$root" > "$cache/debootstrap.log" 2>&1 \
    || { tail -n 5 "$cache/debootstrap.log" >&2; exit 1; }
  # As in the public image: python and pip by these names, free to install into what is no package of Debian's.
  ln -s /usr/bin/python3 "$root/usr/local/bin/python"
  rm -f "$root"/usr/lib/python3.*/EXTERNALLY-MANAGED
  rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/doc "$root"/usr/share/man
  # Nothing of this machine's network goes into the image.
  : > "$root/etc/resolv.conf"
  : > "$root/etc/apt/sources.list"
  tar -C "$root" -cf "$archive.partial" .
  mv "$archive.partial" "$archive"
fi
docker import --change 'CMD ["python3"]' --change 'LABEL stand-in="for python:3.11-slim"' "$archive" "$name"
