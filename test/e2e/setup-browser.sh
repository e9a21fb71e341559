#!/usr/bin/env bash
# Installs the browser that the page tests drive, unless it is there, with the Vulkan loader that, beside Chromium's software driver, runs WebGPU
# without a graphics card. Needs root for apt; says so where it cannot.
set -euo pipefail

if command -v chromium >/dev/null && { ! command -v dpkg >/dev/null || dpkg -s libvulkan1 >/dev/null 2>&1 || [ "$(id -u)" -ne 0 ]; }; then
  exit 0
fi
if ! command -v apt-get >/dev/null; then
  echo "setup-browser: chromium is missing and there is no apt-get; install chromium and the DejaVu fonts by hand" >&2
  exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "setup-browser: chromium is missing and installing it needs root" >&2
    exit 1
  fi
  exec sudo --non-interactive "$0" "$@"
fi
apt-get update
apt-get install -y --no-install-recommends chromium libvulkan1 fonts-dejavu-core
