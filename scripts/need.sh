#!/usr/bin/env bash
# need.sh TOOL… makes sure that each tool is there. As root on a machine with
# apt-get it installs what is missing; elsewhere it says what is missing and fails.
set -euo pipefail

package() {
	case $1 in
	gcc) echo gcc libc6-dev ;;
	node) echo nodejs ;;
	npm) echo npm ;;
	python3) echo python3 ;;
	python3-venv) echo python3 python3-venv ;;
	*) echo "$1" ;;
	esac
}

present() {
	case $1 in
	# The interpreter alone is not enough: Debian packs venv and pip apart.
	python3-venv) python3 -c 'import ensurepip, venv' 2>/dev/null ;;
	*) command -v "$1" >/dev/null ;;
	esac
}

missing=()
for tool in "$@"; do present "$tool" || missing+=("$tool"); done
[ "${#missing[@]}" -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
	echo "missing: ${missing[*]}. Install them, then try again." >&2
	exit 1
fi

packages=()
for tool in "${missing[@]}"; do read -ra names <<<"$(package "$tool")" && packages+=("${names[@]}"); done
echo "installing ${packages[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${packages[@]}" </dev/null

for tool in "${missing[@]}"; do
	present "$tool" || { echo "$tool is still missing after its installation" >&2; exit 1; }
done
