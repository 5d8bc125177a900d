#!/bin/sh
# Installs what is missing on Debian, or says in one line what to install elsewhere.
# Usage: install.sh compiler|postgres|drivers|browser
set -eu

# install PACKAGES...: by apt-get as root, or by sudo without a password.
install() {
	if command -v apt-get >/dev/null 2>&1; then
		if [ "$(id -u)" = 0 ]; then
			as_root=""
		elif sudo -n true 2>/dev/null; then
			as_root="sudo"
		else
			echo "install these packages first: sudo apt-get install $*" >&2
			exit 1
		fi
		echo "installing $*"
		log=$(mktemp)
		if { $as_root apt-get update && $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; } >"$log" 2>&1; then
			rm -f "$log"
		else
			tail -20 "$log" >&2
			echo "install these packages first: $*" >&2
			exit 1
		fi
	else
		echo "install these first (the names are Debian's): $*" >&2
		exit 1
	fi
}

have_postgres() {
	[ -n "${PG_BIN:-}" ] && return 0
	for bin in "$(pg_config --bindir 2>/dev/null || true)" /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/local/bin /usr/local/pgsql/bin /opt/homebrew/opt/postgresql@*/bin; do
		if [ -x "$bin/postgres" ] && [ -x "$bin/initdb" ]; then
			version=$("$bin/postgres" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
			[ "$version" -ge 15 ] && return 0
		fi
	done
	return 1
}

case "${1:-}" in
compiler)
	command -v "${CC:-cc}" >/dev/null 2>&1 || command -v gcc >/dev/null 2>&1 || install gcc libc6-dev
	;;
postgres)
	have_postgres || install postgresql
	command -v psql >/dev/null 2>&1 || install postgresql-client
	;;
drivers)
	missing=""
	python3 -c 'import psycopg' 2>/dev/null || /usr/bin/python3 -c 'import psycopg' 2>/dev/null || missing="$missing python3-psycopg"
	command -v node >/dev/null 2>&1 || missing="$missing nodejs"
	command -v npm >/dev/null 2>&1 || missing="$missing npm"
	command -v javac >/dev/null 2>&1 || missing="$missing default-jdk-headless"
	[ -e /usr/share/java/postgresql.jar ] || missing="$missing libpostgresql-jdbc-java"
	# shellcheck disable=SC2086 # a list of words
	[ -z "$missing" ] || install $missing
	# node-postgres goes into a folder of the test's own, in the versions of its lock file.
	node=$(dirname "$0")/../gateway/drivers/testdata/node
	if [ ! "$node/node_modules/.package-lock.json" -nt "$node/package-lock.json" ]; then
		echo "installing node-postgres in $node"
		(cd "$node" && npm ci --no-audit --no-fund --loglevel=error)
	fi
	;;
browser)
	for name in chromium-headless-shell chromium chromium-browser google-chrome-stable google-chrome chrome; do
		command -v "$name" >/dev/null 2>&1 && exit 0
	done
	install chromium-headless-shell fonts-dejavu-core
	;;
*)
	echo "usage: $0 compiler|postgres|drivers|browser" >&2
	exit 2
	;;
esac
