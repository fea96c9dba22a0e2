#!/bin/sh
# Installs the packages whose commands are missing, given as command:package, through apt where it may: as root, or by
# a sudo that asks nothing. Without that right it says what is missing and goes on: what needs it will name it.
set -u
PATH=$PATH:/usr/sbin:/sbin

missing=
for each in "$@"; do
    command -v "${each%:*}" >/dev/null || missing="$missing ${each#*:}"
done
[ -z "$missing" ] && exit 0

sudo=
[ "$(id -u)" = 0 ] || sudo="sudo -n"
install() {
    # shellcheck disable=SC2086 # both are lists of words
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing >/dev/null
}

if command -v apt-get >/dev/null && $sudo true 2>/dev/null; then
    install 2>/dev/null || { $sudo apt-get update -q >/dev/null && install; } && exit 0
fi
echo "Please install:$missing" >&2
