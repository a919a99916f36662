#!/usr/bin/env bash
# One wheel with the op for several minors of TensorFlow: tools/build_wheel.sh OUTPUT_FOLDER MINOR...
# Without minors: all from 2.16 on that have a wheel for this Python. PYTHON has the groups build and
# wheel of pyproject.toml; each TensorFlow comes into a virtual environment of its own, only to
# compile against, and TENSORFLOW (tensorflow-cpu) names its distribution.
set -euo pipefail
cd "$(dirname "$0")/.."
output=${1:?usage: tools/build_wheel.sh OUTPUT_FOLDER MINOR...}
shift
python=${PYTHON:-python3}
tensorflow=${TENSORFLOW:-tensorflow-cpu}
bin=$(dirname "$("$python" -c 'import sys; print(sys.executable)')")
export PATH="$bin:$PATH"

if [ $# = 0 ]; then
  set -- $("$python" -m pip index versions "$tensorflow" 2> /dev/null |
    sed -n 's/^Available versions: //p' | tr -d ' ' | tr , '\n' |
    cut -d. -f1,2 | sort -uV | awk -F. '$1 > 2 || $2 >= 16')
fi
[ $# != 0 ] || { echo "no wheel of $tensorflow for this Python" >&2; exit 1; }
echo "the op for TensorFlow $*"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/ops"
for minor; do
  "$python" -m venv "$work/$minor"
  "$work/$minor/bin/python" -m pip install -q "$tensorflow==$minor.*" pybind11
  cmake -S . -B "$work/build-$minor" -DYOLOTF_OP=ON -DPython_EXECUTABLE="$work/$minor/bin/python" \
    > "$work/log" || { cat "$work/log"; exit 1; }
  cmake --build "$work/build-$minor" --target _op > "$work/log" || { cat "$work/log"; exit 1; }
  cp "$work/build-$minor/ops/$minor.so" "$work/ops/"
  [ -n "${KEEP:-}" ] && mv "$work/$minor" "$KEEP/" || rm -rf "${work:?}/$minor"
done

CMAKE_ARGS="-DYOLOTF_OPS=$work/ops" "$python" -m pip wheel -q --no-deps --no-build-isolation \
  -w "$work/wheel" .
# The ops use the TensorFlow that is imported, whichever folder it is in.
"$python" -m auditwheel repair -w "$output" --exclude 'libtensorflow*' "$work"/wheel/yolotf-*.whl
