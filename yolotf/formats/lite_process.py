"""Runs TensorFlow Lite's converter in a subprocess, whose crash only makes the conversion fail.

The converter, and the interpreter it calibrates with, abort the process on unexpected input and
when memory runs out. `run` starts this file as a program, which reads a SavedModel and a job from a
folder and writes a model into it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yolotf.files import python_module
from yolotf.formats import lite_file

SAVED_MODEL = "saved"
MODEL = "model.tflite"
_JOB = "job.json"
_OUTPUTS = "outputs.npz"
_ERROR = "error.txt"
_STDERR = "stderr.txt"

Outputs = dict[str, list[Any]]
"""Outputs for each batch, by name."""


class ConverterError(Exception):
    """The converter failed; the message is the converter's, or says how its process ended."""


@dataclass(frozen=True)
class Job:
    """How to convert the SavedModel.

    Attributes:
        float16: half-precision weights.
        int8: int8 weights and activations.
        int8_only: input, outputs and all operations in int8.
        calibration: number of image batches to calibrate with, see `put_images`.
        trial: number of image batches to test the model with.
        outputs: (name of the signature's output, new name of its tensor), in the wanted order.
    """

    float16: bool
    int8: bool
    int8_only: bool
    calibration: int
    trial: int
    outputs: Sequence[tuple[str, str]]


def put_images(folder: Path, kind: str, number: int, images: Any) -> None:
    """Writes a batch of images, float32 in 0..1, for a job.

    Args:
        folder: the job's folder.
        kind: `calibration` or `trial`.
        number: index of the batch, from 0.
        images: [batch, height, width, channels].
    """
    np.save(_images(folder, kind, number), images)


def _images(folder: Path, kind: str, number: int) -> Path:
    return folder / f"{kind}-{number}.npy"


def run(folder: Path, job: Job, calibrated: Callable[[int], None]) -> Outputs:
    """Converts in a subprocess and leaves the model in `folder / MODEL`.

    Args:
        folder: contains `SAVED_MODEL` and the images.
        job: how to convert.
        calibrated: called with the number of batches calibrated so far.

    Returns:
        The model's outputs for the `trial` batches.

    Raises:
        ConverterError: with the converter's message, or how the process ended.
    """
    (folder / _JOB).write_text(json.dumps(asdict(job)))
    # Runs on the CPU alone; the parent may hold the GPU's memory.
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path),  # noqa: PTH109
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = python_module.command(__name__, os.fspath(folder))
    with (
        (folder / _STDERR).open("wb") as stderr,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.strip().isdecimal():
                    calibrated(int(line))
            code = process.wait()
        except BaseException:
            process.kill()
            raise
    if code:
        raise ConverterError(_reason(folder, code))
    with np.load(folder / _OUTPUTS) as arrays:
        return {
            name: [arrays[f"{name}/{number}"] for number in range(job.trial)]
            for name, _ in job.outputs
        }


def _reason(folder: Path, code: int) -> str:
    """Returns why the process failed."""
    if (folder / _ERROR).exists():
        return (folder / _ERROR).read_text()
    lines = (folder / _STDERR).read_text(errors="replace").strip().splitlines()
    last_line = f" (its last message: {lines[-1].strip()})" if lines else ""
    if code == -signal.SIGKILL:
        return f"its process was killed, probably because memory ran out{last_line}"
    if code < 0:
        return f"its process ended with signal {signal.Signals(-code).name}{last_line}"
    return f"its process ended with exit code {code}{last_line}"


def convert(folder: Path, job: Job, calibrated: Callable[[int], None]) -> Outputs:
    """Does the work of `run` in this process."""
    import tensorflow as tf  # imported here: the parent process does not need it

    converter = tf.lite.TFLiteConverter.from_saved_model(
        os.fspath(folder / SAVED_MODEL), signature_keys=["serving_default"]
    )
    if job.float16 or job.int8:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if job.float16:
        converter.target_spec.supported_types = [tf.float16]
    if job.int8:
        converter.representative_dataset = lambda: _calibration(folder, job, calibrated)
    if job.int8_only:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    content = lite_file.with_outputs(converter.convert(), job.outputs)
    (folder / MODEL).write_bytes(content)
    outputs: Outputs = {name: [] for name, _ in job.outputs}
    if job.trial:
        interpreter = tf.lite.Interpreter(model_content=content)
        runner = interpreter.get_signature_runner("serving_default")
        for number in range(job.trial):
            batch = _float_outputs(runner, np.load(_images(folder, "trial", number)))
            for name, values in outputs.items():
                values.append(batch[name])
    return outputs


def _calibration(folder: Path, job: Job, calibrated: Callable[[int], None]) -> Any:
    for number in range(job.calibration):
        yield [np.load(_images(folder, "calibration", number))]
        calibrated(number + 1)


def _float_outputs(runner: Any, images: Any) -> dict[str, Any]:
    """Returns the outputs as float32, whatever the model's input and output types."""
    detail = runner.get_input_details()["images"]
    scale, zero = detail["quantization"]
    if scale:
        images = np.clip(np.round(images / scale) + zero, -128, 127).astype(detail["dtype"])
    outputs = {}
    for name, values in runner(images=images).items():
        scale, zero = runner.get_output_details()[name]["quantization"]
        outputs[name] = (values.astype(np.float32) - zero) * scale if scale else values
    return outputs


def main(folder: Path) -> int:
    """Entry point: does the job in a folder and returns the exit code."""
    job = Job(**json.loads((folder / _JOB).read_text()))
    try:
        outputs = convert(folder, job, lambda number: print(number, flush=True))
    except Exception as error:
        (folder / _ERROR).write_text(str(error))
        return 1
    arrays = {
        f"{name}/{number}": values
        for name, batches in outputs.items()
        for number, values in enumerate(batches)
    }
    np.savez(folder / _OUTPUTS, **arrays)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
