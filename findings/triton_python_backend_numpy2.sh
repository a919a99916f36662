#!/usr/bin/env bash
# Triton 2.51's Python backend under NumPy 2: inputs repeat their first number, binary outputs are empty.
#
# The backend's stub reads NumPy's C structs as NumPy 1 laid them out, and takes the item size of
# float32 for 0. Nothing checks the version: the model loads, an input has the right type and shape,
# and its strides are 0. Outputs keep name, type and shape; a request for binary outputs (what
# tritonclient asks for) is answered with status 200 and 0 bytes of each, one for JSON with status
# 500, "output tensor shape does not match size of output".
# The server is that of the nvidia-pytriton 0.7.0 wheel, which asks pip for numpy<2; a model's own
# environment may bring another. Needs Python 3.11 or 3.12, for which there are a stub and NumPy.
# Seen for an input of 1, 2, 3, 4 and an output of six ones: NumPy 1.26.4: both right. NumPy 2.4.6:
# the input is 1, 1, 1, 1; status 200, shape [2, 3], 0 bytes; JSON: status 500.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python="$folder/venv/bin/python"
"$python" -m pip install -q --no-deps nvidia-pytriton==0.7.0 2> /dev/null
cat > "$folder/run.py" <<'PYTHON'
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy

folder = Path(sys.argv[1], numpy.__version__)
packages = Path(sysconfig.get_path("purelib"))
server = packages / "pytriton/tritonserver"
version = folder / "models/ones/1"
version.mkdir(parents=True)
(version / "model.py").write_text(
    """
import json
import os

import numpy as np
import triton_python_backend_utils as triton


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            given = triton.get_input_tensor_by_name(request, "given").as_numpy()
            with open(os.environ["SEEN"], "w") as file:
                json.dump([str(given.dtype), given.tolist()], file)
            out = triton.Tensor("out", np.ones((2, 3), np.float32))
            answers.append(triton.InferenceResponse([out]))
        return answers
"""
)
(folder / "models/ones/config.pbtxt").write_text(
    """
backend: "python"
input [{ name: "given", data_type: TYPE_FP32, dims: [ -1, -1 ] }]
output [{ name: "out", data_type: TYPE_FP32, dims: [ -1, -1 ] }]
instance_group [{ count: 1, kind: KIND_CPU }]
"""
)
shutil.copytree(server / "backends", folder / "backends")
name = "{}.{}".format(*sys.version_info)
stub = server / f"python_backend_stubs/{name}/triton_python_backend_stub"
shutil.copy(stub, folder / "backends/python")
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
address = f"http://127.0.0.1:{port}/v2/models/ones"
command = [str(server / "bin/tritonserver"), "--model-repository", str(folder / "models")]
command += ["--backend-directory", str(folder / "backends"), "--http-address", "127.0.0.1"]
command += ["--http-port", str(port), "--allow-grpc", "false", "--allow-metrics", "false"]
environment = {
    **os.environ,
    "SEEN": str(folder / "seen"),
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "LD_LIBRARY_PATH": str(packages / "nvidia_pytriton.libs"),
}
log = (folder / "log").open("wb")
process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
try:
    for _ in range(300):
        try:
            urllib.request.urlopen(f"{address}/ready", timeout=5).close()
            break
        except (urllib.error.URLError, ConnectionError):
            assert process.poll() is None, (folder / "log").read_text(errors="replace")
            time.sleep(0.2)
    given = {"name": "given", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
    answers = []
    for binary in (True, False):
        body = {"inputs": [given], "parameters": {"binary_data_output": binary}}
        request = urllib.request.Request(f"{address}/infer", json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                content = answer.read()
                length = int(answer.headers["Inference-Header-Content-Length"] or len(content))
            (out,) = json.loads(content[:length])["outputs"]
            answers.append([200, out["shape"], out.get("data", content[length:].hex())])
        except urllib.error.HTTPError as error:
            answers.append([error.code, json.load(error)["error"]])
finally:
    process.terminate()
    process.wait(60)
binary, plain = answers
seen = json.loads((folder / "seen").read_text())
print(f"NumPy {numpy.__version__}: input {seen}, binary output {binary}, JSON output {plain}")
if numpy.__version__ == "1.26.4":
    assert seen == ["float32", [[1, 2, 3, 4]]]
    assert binary == [200, [2, 3], numpy.ones(6, numpy.float32).tobytes().hex()]
    assert plain == [200, [2, 3], [1.0] * 6]
else:
    assert seen == ["float32", [[1, 1, 1, 1]]], "inputs are read otherwise now"
    assert binary == [200, [2, 3], ""], "outputs have data now"
    assert plain[0] == 500, "JSON is answered now"
PYTHON
for numpy in 1.26.4 2.4.6; do
  "$python" -m pip install -q --no-deps numpy=="$numpy" 2> /dev/null
  "$python" "$folder/run.py" "$folder"
done
