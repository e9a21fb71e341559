#!/usr/bin/env bash
# Installs the Redis server that the tests of workers start, unless it is there. Without it they are skipped, and counted so.
set -euo pipefail

if command -v redis-server >/dev/null; then
  exit 0
fi
if ! command -v apt-get >/dev/null; then
  echo "setup-redis: redis-server is missing and there is no apt-get; tests of workers are skipped" >&2
  exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "setup-redis: redis-server is missing and installing it needs root; tests of workers are skipped" >&2
    exit 1
  fi
  exec sudo --non-interactive "$0" "$@"
fi
apt-get update
apt-get install -y --no-install-recommends redis-server
