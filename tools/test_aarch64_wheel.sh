#!/usr/bin/env bash
# Runs a wheel of make wheel ARCH=aarch64 on this machine: tools/test_aarch64_wheel.sh WHEEL MINOR.
# Debian's Python for aarch64 is unpacked into a folder of its own, with TensorFlow MINOR and the
# wheel, and emulated by qemu-user: the tests of the core's module, and a load through the op.
# Ends with 3 where Debian has no such Python, or is not there.
set -euo pipefail
wheel=$(realpath "${1:?usage: tools/test_aarch64_wheel.sh WHEEL MINOR}")
minor=${2:?usage: tools/test_aarch64_wheel.sh WHEEL MINOR}
cd "$(dirname "$0")/.."
version=$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# As if nothing were installed: the machine's own packages are left alone.
mkdir -p "$work"/apt/state/lists/partial "$work"/apt/cache/archives/partial
touch "$work/apt/status"
foreign=(-qq -o "Dir::State=$work/apt/state" -o "Dir::State::status=$work/apt/status"
  -o "Dir::Cache=$work/apt/cache" -o APT::Architecture=arm64 -o APT::Architectures=arm64)
if ! { apt-get "${foreign[@]}" update && apt-get "${foreign[@]}" install -y --no-install-recommends \
  --download-only "python$version" libstdc++6; } > "$work/log" 2>&1; then
  tail -n 2 "$work/log"
  echo "no Python $version for aarch64 to be had from Debian"
  exit 3
fi
for package in "$work"/apt/cache/archives/*.deb; do
  dpkg-deb -x "$package" "$work/root"
done
rm -r "$work/apt"

tags=(--platform manylinux2014_aarch64)
for glibc in $(seq 17 40); do
  tags+=(--platform "manylinux_2_${glibc}_aarch64")
done
.venv/bin/python -m pip install -q --target "$work/root/usr/lib/python3/dist-packages" \
  --only-binary=:all: --implementation cp --python-version "$version" "${tags[@]}" \
  "$wheel" "tensorflow==$minor.*" hypothesis "opencv-python-headless<5" pytest

emulated() { # in a folder that has no yolotf
  (cd "$work/here" && qemu-aarch64 -L "$work/root" -E PYTHONDONTWRITEBYTECODE=1 \
    "$work/root/usr/bin/python$version" "$@")
}
mkdir "$work/here"
cp -r tests pyproject.toml "$work/here"
emulated -c 'import platform; assert platform.machine() == "aarch64"'
emulated -m pytest -q -p no:cacheprovider tests/weights/test_core.py tests/weights/test_refusal.py \
  tests/runtime/test_resize.py tests/runtime/test_random_class_trees.py
emulated -I "$PWD/tools/check_op.py"
