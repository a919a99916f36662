"""`python read_onnx.py READER MODEL IMAGES OUTPUTS` runs an ONNX model without yolotf.

It is a separate program so that readers that exclude each other can have separate environments
(see `make test-readers`). IMAGES is an .npy file; OUTPUTS is written as an .npz file with the
outputs in the model's order.
"""

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np


def opencv(model, images):
    """cv2.dnn"""
    import cv2
    import onnx

    network = cv2.dnn.readNetFromONNX(model)
    network.setInput(images)
    return network.forward([output.name for output in onnx.load(model).graph.output])


def tract(model, images):
    """tract"""
    import tract

    runnable = tract.onnx().load(model).into_model().into_runnable()
    return [output.to_numpy() for output in runnable.run([images])]


def mnn(model, images):
    """MNN, with its converter"""
    import MNN.expr
    import MNN.nn
    import onnx

    names = [output.name for output in onnx.load(model).graph.output]
    converter = Path(sys.executable).with_name("mnnconvert")
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/model.mnn"
        files = ["--modelFile", model, "--MNNModel", path, "--bizCode", "none"]
        subprocess.run([converter, "-f", "ONNX", *files], check=True, stdout=subprocess.DEVNULL)
        module = MNN.nn.load_module_from_file(path, ["images"], names)
    given = MNN.expr.const(images, list(images.shape), MNN.expr.NCHW, MNN.expr.float)
    outputs = module.forward([given])
    return [np.array(MNN.expr.convert(output, MNN.expr.NCHW).read()) for output in outputs]


def ncnn(model, images):
    """ncnn, with pnnx; in float32, one image at a time"""
    import ncnn

    package = Path(importlib.util.find_spec("pnnx").origin).parent
    (converter,) = (path for path in package.rglob("pnnx") if path.is_file())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.onnx")
        path.write_bytes(Path(model).read_bytes())
        shape = ",".join(map(str, images.shape))
        command = [converter, path.name, f"inputshape=[{shape}]", "fp16=0"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        network = ncnn.Net()
        network.opt.use_fp16_arithmetic = network.opt.use_fp16_storage = False
        network.opt.use_fp16_packed = False
        if network.load_param(f"{folder}/m.ncnn.param") or network.load_model(
            f"{folder}/m.ncnn.bin"
        ):
            sys.exit("ncnn does not load what pnnx has written")
        extractor = network.create_extractor()
        (name,) = network.input_names()
        extractor.input(name, ncnn.Mat(np.ascontiguousarray(images[0])))
        # Their names are out0, out1, ... in the model's order.
        return [np.array(extractor.extract(name)[1]) for name in sorted(network.output_names())]


READERS = {function.__name__: function for function in (opencv, tract, mnn, ncnn)}
PACKAGES = {
    "opencv": ("cv2", "onnx"),
    "tract": ("tract",),
    "mnn": ("MNN", "onnx"),
    "ncnn": ("ncnn", "pnnx"),
}


def main(reader, model, images, outputs):
    """Runs one reader; the exit code is 77 if its package is missing."""
    missing = [package for package in PACKAGES[reader] if importlib.util.find_spec(package) is None]
    if missing:
        print(f"needs {missing[0]}, see make test-readers")
        sys.exit(77)
    np.savez(outputs, *READERS[reader](model, np.load(images)))


if __name__ == "__main__":
    main(*sys.argv[1:])
