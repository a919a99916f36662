"""`load_darknet_weights`: a `.weights` file into the variables of a Keras model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from yolotf import errors, text
from yolotf._public import also_named, public
from yolotf.darknet.cfg import Network
from yolotf.darknet.graph_checks import BN_EPSILON
from yolotf.files import sources
from yolotf.files.fetching import TIMEOUT
from yolotf.loading import diagnose, origins, partial, planning
from yolotf.loading.argument_checks import model_first, outside_of_functions
from yolotf.models import differences, undrawn
from yolotf.models.layer_names import network_of
from yolotf.models.units import extra_biases
from yolotf.weights import catalog, layout, own_files
from yolotf.weights import write as writing
from yolotf.weights.file import WeightsFile, WeightsSource
from yolotf.weights.header import Header


@public
@dataclass(frozen=True)
class LoadReport:
    """What a load did; printing it gives one block of text.

    Attributes:
        path: the file.
        header: its header.
        layers: sections whose floats were written.
        variables: variables written, replicas counted.
        floats: floats written, replicas not counted.
        size_bytes: of the file.
        seconds: the whole call, the walk of the model included.
        native_seconds: the native part: checking, reading and writing.
        path_taken: `op`, or `portable` for variables or a TensorFlow that the op cannot serve.
        mapped: whether the file was read through a mapping; if not, through a private copy,
            because another process could have changed it meanwhile.
        threads: that wrote.
        loaded: names of the model's layers that were written, in file order.
        skipped: layers that file and model both have, in different shapes; left as they were.
        untouched: layers of the model that the file has nothing for.
        unused: layers of the file that the model has no place for.
        zeroed: layers of the model whose bias is followed by a batch normalization. Darknet
            stores no such bias; it was set to 0, with which the model computes what Darknet does.
        warnings: it loaded, but.
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
        """Bytes of floats written in the native part, in 10^9 bytes per second."""
        return 4e-9 * self.floats / self.native_seconds if self.native_seconds else 0.0

    def __str__(self) -> str:
        header = self.header
        source = "mapping" if self.mapped else "private copy"
        lines = [
            f"{self.path}: loaded {text.plural(self.layers, 'layer')}, {self.floats:,} floats, "
            f"{self.size_bytes:,} bytes",
            f"  header   version {header.major}.{header.minor}.{header.revision}, "
            f"seen {header.seen:,} pictures, {header.size_bytes} bytes",
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
@outside_of_functions
@also_named(weights_file="weights", cfg="network")
@model_first
def load_darknet_weights(
    model: Any,
    weights: WeightsSource,
    tiny: bool = False,
    *,
    network: Any = None,
    strict: bool = True,
    by_name: bool = False,
    skip_mismatch: bool = False,
    cast: bool = False,
    verify: bool = True,
    bn_epsilon: str = "keep",
    progress: Callable[[int, int], None] | None = None,
    timeout: float | None = TIMEOUT,
) -> LoadReport:
    """Loads a Darknet `.weights` file into a built Keras model, all of it or nothing.

    Everything is checked natively before the first byte is written: the file's size, the dtype
    and shape of every variable, and, with `verify`, the content. Values read from variables
    before the call keep their numbers; functions traced before it see the new weights.

    A bias before a batch normalization, which Darknet does not have, is set to 0.

    Args:
        model: built by `build_model`, or with layers called after their sections.
        weights: the file; float32, little-endian, header of 16 or 20 bytes. A path or
            URL, its bytes, or an open binary file (`yolotf.files.sources`); what comes over
            a network is complete before a variable changes.
        tiny: ignored; older loaders need it.
        network: the network the file was trained as, if that is not the model's: a `Network`, a
            cfg's path or text, or a stock name. Its layers fill the model's; only those right
            before a head may differ, as they do with another class count, and stay as they
            were. `cfg=` is another name for it, as `weights_file=` is for `weights`.
        strict: refuse a file that ends early at the end of a layer, unless it is called
            `*.conv.N`, and, with `by_name`, names without a partner.
        by_name: pair the file's sections with the model's layers by name (`conv_17`), in
            whatever order the model has them.
        skip_mismatch: load what fits and leave the rest; extra or missing layers are stepped
            over. The report lists what was loaded, skipped and left untouched.
        cast: also allow float16 and bfloat16 variables; the floats are rounded to nearest even.
            float64 variables, which hold every float32, need no word. Under a LoRA adapter
            (`enable_lora`) the kernel itself is loaded; quantized kernels are refused.
        verify: refuse a file with moving variances that are negative or not finite: its size
            fits, its layout does not.
        bn_epsilon: `darknet` sets every batch normalization's epsilon to Darknet's 1e-5 (before
            the model is traced); `keep` leaves them and warns where they differ.
        progress: called with (bytes done, bytes in all) at the beginning and the end, and
            before that while they come over a network.
        timeout: seconds that a URL's server may be silent; None: any.

    Returns:
        What was loaded, from where, and how fast.

    Raises:
        WeightsMismatch: file and model do not belong together; no variable was changed. Its
            `diagnosis` holds all causes.
        OSError: the file cannot be read; `TimeoutError`: its server is silent.
        TypeError: an argument is something else.
        ValueError: inside of a `tf.function`.
    """
    started = time.perf_counter()
    import tensorflow as tf  # not with `import yolotf`

    if bn_epsilon not in ("keep", "darknet"):
        raise ValueError(f"bn_epsilon is {bn_epsilon!r}, must be 'keep' or 'darknet'")
    expected = None
    if sources.is_url(weights) and not (by_name or skip_mismatch):
        expected = planning.expected_network(model, network)
    with WeightsFile.open(weights, progress, network=expected, timeout=timeout) as file:
        try:
            job = planning.job_for(
                model, file, network, strict=strict, by_name=by_name, skip_mismatch=skip_mismatch
            )
            if progress:
                progress(0, file.size_bytes)
            biases = _extra_biases(model, job.plan)
            with tf.init_scope():
                stats = writing.write(file, job.header, job.plan, cast=cast, verify=verify)
                for bias in biases:
                    bias.variable.assign(tf.zeros(bias.shape, bias.dtype))
        except errors.WeightsMismatch as error:
            raise diagnose.explained(error, file, model, network) from None
    undrawn.filled(assignment.slot.holder for assignment in job.plan.assignments)
    if job.complete:
        origins.remember(model, job.header, job.plan)
    if bn_epsilon == "darknet":
        for layer in differences.norms(model):
            layer.epsilon = BN_EPSILON
    found = differences.differences(model, job.plan.network, job.plan.assignments)
    network_of_file = job.plan.network
    whole = job.complete and (
        network_of_file is None or job.plan.loaded_floats >= layout.floats(network_of_file)
    )
    notes = [
        *file_warnings(job.header, network_of_file, file.path, has_heads=whole),
        *job.notes,
        *(one.message for one in found),
    ]
    if progress:
        progress(file.size_bytes, file.size_bytes)
    return LoadReport(
        path=file.name,
        header=job.header,
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
        warnings=tuple(notes),
        zeroed=tuple(bias.name.rpartition("/")[0] for bias in biases),
    )


def _extra_biases(model: Any, plan: layout.Plan) -> list[layout.Slot]:
    """Biases before batch normalizations that the plan fills."""
    if network_of(model) is not None:  # has none
        return []
    return [bias for bias, _ in extra_biases(model, plan.assignments)]


def file_warnings(
    header: Header, network: Network | None, path: str, *, has_heads: bool = True
) -> Iterable[str]:
    """What is odd about the header and the cfg, and other networks that the file may be of.

    Args:
        header: of the file.
        network: that it was loaded as, if that is known.
        path: of the file; one that this process wrote leaves no doubt of its network.
        has_heads: heads were loaded, too; the rest is the same in the networks in question.
    """
    if header.size_bytes != header.version_size_bytes:
        yield (
            f"version {header.major}.{header.minor} asks for a header of "
            f"{header.version_size_bytes} bytes, the size fits one of {header.size_bytes}"
        )
    if network is not None:
        yield from network.warnings
        if has_heads and not own_files.is_of(path, network):
            yield from catalog.stock_warnings(network)
