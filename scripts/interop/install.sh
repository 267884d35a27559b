#!/usr/bin/env bash
# install.sh npm|pip… puts the pinned packages of this folder into .cache/interop,
# unless they are there already. Only this needs the network; what is installed
# runs without.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=$here/../../.cache/interop
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)

# once NAME FILE COMMAND… runs the command unless it has succeeded for this FILE before.
once() {
	local stamp=$cache/$1.stamp file=$2
	shift 2
	if cmp -s "$file" "$stamp"; then return; fi
	rm -f "$stamp"
	"$@"
	cp "$file" "$stamp"
}

# Debian's Node is older than what some packages need, so that they bring their own
# (on Linux; elsewhere Node 22 must be there). None needs to run scripts to be installed.
npm_packages() {
	cp "$here/package.json" "$here/package-lock.json" "$cache/"
	(cd "$cache" && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error)
}

pip_packages() {
	rm -rf "$cache/venv"
	python3 -m venv "$cache/venv"
	"$cache/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
}

for what in "$@"; do
	case $what in
	npm)
		"$here/../need.sh" npm
		once npm "$here/package-lock.json" npm_packages
		node=$(PATH="$cache/node_modules/.bin:$PATH" node --version)
		if [ "${node#v}" = "$node" ] || [ "$(cut -d. -f1 <<<"${node#v}")" -lt 22 ]; then
			echo "Node 22 or newer is needed; this is $node" >&2
			exit 1
		fi
		;;
	pip)
		"$here/../need.sh" python3-venv
		once pip "$here/requirements.txt" pip_packages
		;;
	esac
done
# The scripts here import what is installed there, so they must be beside it.
cp "$here"/*.mjs "$cache/"
