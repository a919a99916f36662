#!/usr/bin/env bash
# tensorflow-cpu 2.21.0: kernels_experimental.h of the wheel declares functions by which a kernel
# written against the C API locks and assigns resource variables (TF_AssignVariable and others), but
# no library of the wheel exports one of them. Such a kernel compiles and cannot be loaded: what
# writes variables has to be built against the C++ interface, for one minor version of TensorFlow.
# The functions of kernels.h and ops.h are exported.
#
# Output on Linux, x86-64:
#   tensorflow-cpu 2.21.0: 57 functions in kernels.h, 57 exported
#   tensorflow-cpu 2.21.0: 14 functions in kernels_experimental.h, 0 exported
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q pyelftools==0.32
"$work/venv/bin/python" -m pip download -q --no-deps --only-binary=:all: -d "$work" tensorflow-cpu==2.21.0
"$work/venv/bin/python" - "$work"/tensorflow_cpu-*.whl << 'END'
import re
import sys
import tempfile
import zipfile

from elftools.elf.elffile import ELFFile

exported = set()
declared = {}
with zipfile.ZipFile(sys.argv[1]) as wheel:
    for name in wheel.namelist():
        if re.search(r"\.so(\.\d+)*$", name):
            with tempfile.TemporaryDirectory() as folder:
                with open(wheel.extract(name, folder), "rb") as file:
                    for symbol in ELFFile(file).get_section_by_name(".dynsym").iter_symbols():
                        if symbol.name.startswith("TF_") and symbol["st_shndx"] != "SHN_UNDEF":
                            exported.add(symbol.name)
    for header in ("kernels.h", "kernels_experimental.h"):
        text = wheel.read(f"tensorflow/include/tensorflow/c/{header}").decode()
        found = re.findall(r"TF_CAPI_EXPORT\s+extern[^;(]*?\b(TF_\w+)\(", text)
        declared[header] = set(found)
        print(
            f"tensorflow-cpu 2.21.0: {len(declared[header])} functions in {header}, "
            f"{len(declared[header] & exported)} exported"
        )
variables = {"TF_AssignVariable", "TF_GetInputTensorFromVariable"}
assert variables <= declared["kernels_experimental.h"], "no longer declared"
assert not declared["kernels_experimental.h"] & exported, "exported now"
assert {"TF_NewKernelBuilder", "TF_AllocateOutput"} <= exported, "kernels.h is not exported either"
END
