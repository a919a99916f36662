"""`load_darknet_weights`: loads a `.weights` file into the variables of a Keras model."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from yolotf import errors, text
from yolotf._public import also_named, public
from yolotf.argument_numbers import flags_checked
from yolotf.darknet.cfg import Network, Source
from yolotf.darknet.graph_checks import BN_EPSILON
from yolotf.files import sources
from yolotf.files.fetching import TIMEOUT
from yolotf.interfaces import KerasModel
from yolotf.loading import diagnose, origins, partial
from yolotf.loading.argument_checks import check_model_and_weights, forbid_in_tf_function
from yolotf.loading.job import Job, expected_network, plan_load
from yolotf.models import differences, undrawn
from yolotf.models.layer_names import network_of
from yolotf.models.readings import extra_biases
from yolotf.progress import Progress, as_progress
from yolotf.weights import layout, own_files, same_size
from yolotf.weights import write as writing
from yolotf.weights.file import ParsedFile, WeightsFile, WeightsSource
from yolotf.weights.header import Header, width_warning


@public
@dataclass(frozen=True)
class LoadReport:
    """What a load did; `str()` gives a readable summary.

    Attributes:
        path: name of the file.
        header: header of the file.
        layers: number of sections whose floats were written.
        variables: number of variables written, including replicas.
        floats: number of floats written, not counting replicas.
        size_bytes: size of the file.
        seconds: time of the whole call, including the analysis of the model.
        native_seconds: time of the native part: checking, reading and writing.
        path_taken: `op`, or `portable` if the op supports neither the variables nor this
            TensorFlow.
        mapped: whether the file was memory-mapped. If not, a private copy was read, because
            another process could have changed the file during the load.
        threads: number of threads that wrote.
        loaded: names of the model's layers that were written, in file order.
        skipped: layers whose shapes differ between file and model; left unchanged.
        untouched: layers of the model that have no weights in the file; left unchanged.
        unused: layers of the file that the model does not have.
        zeroed: layers of the model with a bias before a batch normalization. Darknet stores no
            such bias; it was set to 0, so that the model computes what Darknet does.
        warnings: problems that did not prevent loading.
    """

    path: str
    header: Header
    layers: int
    variables: int
    floats: int
    size_bytes: int
    seconds: float
    native_seconds: float
    path_taken: str
    mapped: bool
    threads: int
    loaded: tuple[str, ...] = field(default=(), repr=False)
    skipped: tuple[partial.Skipped, ...] = ()
    untouched: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    zeroed: tuple[str, ...] = ()

    @property
    def gb_per_second(self) -> float:
        """Throughput of the native part in 10^9 bytes per second; 0 if it took no time."""
        return 4e-9 * self.floats / self.native_seconds if self.native_seconds else 0.0

    def __str__(self) -> str:
        header = self.header
        source = "mapping" if self.mapped else "private copy"
        lines = [
            f"{self.path}: loaded {text.plural(self.layers, 'layer')}, {self.floats:,} floats, "
            f"{self.size_bytes:,} bytes",
            f"  header   version {header.major}.{header.minor}.{header.revision}, "
            f"seen {header.seen:,} images, {header.size_bytes} bytes",
            f"  time     {1e3 * self.seconds:.1f} ms, of which native "
            f"{1e3 * self.native_seconds:.1f} ms ({self.gb_per_second:.1f} GB/s)",
            f"  path     {self.path_taken}, {source}, {text.plural(self.threads, 'thread')}, "
            f"{text.plural(self.variables, 'variable')}",
        ]
        lines += [f"  skipped  {skipped}" for skipped in self.skipped]
        for heading, names in (("untouched", self.untouched), ("unused", self.unused)):
            if names:
                lines.append(f"  {heading}: {text.listed(names, 8)}")
        if self.zeroed:
            lines.append(
                f"  zeroed   {text.plural(len(self.zeroed), 'bias', 'biases')} before a batch "
                f"normalization, which Darknet does not store: {text.listed(self.zeroed, 8)}"
            )
        lines += [f"  warning  {warning}" for warning in self.warnings]
        return text.printable("\n".join(lines))


@public
@forbid_in_tf_function
@also_named(weights_file="weights", cfg="network")
@check_model_and_weights
@flags_checked("strict", "by_name", "skip_mismatch", "cast", "verify")
def load_darknet_weights(
    model: KerasModel,
    weights: WeightsSource,
    tiny: bool = False,
    *,
    network: Network | Source | None = None,
    strict: bool = True,
    by_name: bool = False,
    skip_mismatch: bool = False,
    cast: bool = False,
    verify: bool = True,
    bn_epsilon: str = "keep",
    progress: Progress | None = None,
    timeout: float | None = TIMEOUT,
) -> LoadReport:
    """Loads a Darknet `.weights` file into a built Keras model, completely or not at all.

    Everything is checked before the first byte is written: the size of the file, the dtype and
    shape of every variable and, with `verify`, the values. Values read from variables before
    the call do not change; functions traced before it use the new weights.

    A bias before a batch normalization, which Darknet does not have, is set to 0.

    Args:
        model: a built Keras model, from `build_model` or from any other source.
        weights: the file: float32, little-endian, with a header of 16 or 20 bytes. A path or
            URL, the bytes themselves, or an open binary file (`yolotf.files.sources`). A
            download is complete before any variable changes.
        tiny: ignored; accepted because older loaders need it.
        network: the network the file was trained as, if it is not the model's own: a `Network`,
            a cfg's path or text, or a stock name. Its layers are loaded into the model's. Only
            layers right before a head may differ, as they do with another class count; they are
            left unchanged. `cfg=` and `weights_file=` are older names of `network` and `weights`.
        strict: refuse a file that ends early at the end of a layer, unless its name is
            `*.conv.N`, and, with `by_name`, names that only one side has.
        by_name: match the file's sections to the model's layers by name (`conv_17`), in any
            order.
        skip_mismatch: load the layers that match and leave the others unchanged; either side may
            have extra layers. The report lists the layers that were loaded, skipped and left
            untouched.
        cast: also allow float16 and bfloat16 variables; floats are rounded to nearest even.
            float64 variables are always allowed. Of a layer with a LoRA adapter (`enable_lora`),
            the kernel itself is loaded; quantized kernels are refused.
        verify: refuse a file with implausible values, such as a moving variance that is negative
            or not finite: its size matches, its layout does not.
        bn_epsilon: `darknet` sets the epsilon of every batch normalization to Darknet's 1e-5 (do
            this before the model is traced); `keep` leaves it and warns where it differs.
        progress: called as `progress(stage, bytes_done, bytes_in_total)`: `downloading` for a
            URL, then `loading`.
        timeout: seconds without data after which a download fails; None waits forever.

    Returns:
        The report: what was loaded, from where, and how fast.

    Raises:
        WeightsMismatch: file and model do not match; no variable was changed. Its `diagnosis`
            lists all causes.
        OSError: the file cannot be read; `TimeoutError` if its server does not respond.
        TypeError: an argument has the wrong type.
        ValueError: called inside a `tf.function`, or `bn_epsilon` is unknown.
    """
    started = time.perf_counter()
    progress = as_progress(progress, "done, total")
    import tensorflow as tf  # imported here: `import yolotf` must not import TensorFlow

    if bn_epsilon not in ("keep", "darknet"):
        raise ValueError(f"bn_epsilon={bn_epsilon!r} must be 'keep' or 'darknet'")
    expected = None
    if sources.is_url(weights) and not (by_name or skip_mismatch):
        expected = expected_network(model, network)
    with WeightsFile.open(weights, progress, network=expected, timeout=timeout) as file:
        try:
            job = plan_load(
                model, file, network, strict=strict, by_name=by_name, skip_mismatch=skip_mismatch
            )
            progress("loading", 0, file.size_bytes)
            biases = _extra_biases(model, job.plan)
            with tf.init_scope():
                stats = writing.write(job.file, job.plan, cast=cast, verify=verify)
                for bias in biases:
                    bias.variable.assign(tf.zeros(bias.shape, bias.dtype))
        except errors.WeightsMismatch as error:
            raise diagnose.with_diagnosis(error, file, model, network) from None
    undrawn.filled(assignment.slot.holder for assignment in job.plan.assignments)
    if job.complete:
        origins.remember(model, job.file.header, job.plan)
    if bn_epsilon == "darknet":
        for layer in differences.norms(model):
            layer.epsilon = BN_EPSILON
    warnings = tuple(_warnings(model, job))
    progress("loading", file.size_bytes, file.size_bytes)
    return LoadReport(
        path=file.name,
        header=job.file.header,
        layers=job.plan.section_count,
        variables=stats.variables,
        floats=job.plan.loaded_floats,
        size_bytes=file.size_bytes,
        seconds=time.perf_counter() - started,
        native_seconds=stats.nanoseconds / 1e9,
        path_taken=stats.path_taken,
        mapped=stats.mapped,
        threads=stats.threads,
        loaded=job.loaded,
        skipped=job.skipped,
        untouched=job.untouched,
        unused=job.unused,
        warnings=warnings,
        zeroed=tuple(bias.name.rpartition("/")[0] for bias in biases),
    )


def _extra_biases(model: Any, plan: layout.Plan) -> list[layout.Slot]:
    """Returns the biases before batch normalizations that are part of `plan`."""
    if network_of(model) is not None:  # `build_model` adds no such bias
        return []
    return [bias for bias, _ in extra_biases(model, plan.assignments)]


def _warnings(model: Any, job: Job) -> Iterable[str]:
    """Yields warnings about the file, the layers and what the model computes."""
    network = job.plan.network
    is_whole = job.complete and (
        network is None or job.plan.loaded_floats >= layout.floats(network)
    )
    yield from file_warnings(job.file, network, has_heads=is_whole)
    yield from job.notes
    for difference in differences.differences(model, network, job.plan.assignments):
        yield difference.message


def file_warnings(
    file: ParsedFile, network: Network | None, *, has_heads: bool = True
) -> Iterable[str]:
    """Yields warnings about the header, the cfg, and stock networks the file may belong to.

    Args:
        file: the file. The network of a file that this process wrote is certain.
        network: the network it was loaded as, if known.
        has_heads: whether heads were loaded too; stock networks of one size differ only there.
    """
    header = file.header
    if header.size_bytes != header.version_size_bytes:
        version = f"{header.major}.{header.minor}"
        yield width_warning(version, header.version_size_bytes, header.size_bytes)
    if network is not None:
        yield from network.warnings
        if has_heads and not own_files.was_written_for(file.path, network):
            yield from same_size.stock_warnings(network)
