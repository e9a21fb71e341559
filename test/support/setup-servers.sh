#!/usr/bin/env bash
# Installs the servers that the tests of workers start, Redis and PostgreSQL, unless they are there. Tests whose server is missing
# are skipped, and counted so.
set -euo pipefail

missing=()
command -v redis-server >/dev/null || missing+=(redis-server)
compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null || missing+=(postgresql)
if [ ${#missing[@]} -eq 0 ]; then
  exit 0
fi
if ! command -v apt-get >/dev/null; then
  echo "setup-servers: ${missing[*]} missing and there is no apt-get; tests of workers are skipped" >&2
  exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "setup-servers: ${missing[*]} missing and installing needs root; tests of workers are skipped" >&2
    exit 1
  fi
  exec sudo --non-interactive "$0" "$@"
fi
apt-get update
apt-get install -y --no-install-recommends "${missing[@]}"
