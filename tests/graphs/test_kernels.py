"""Which kernels run convolutions on which processor, and why."""

import platform

import pytest
import tensorflow as tf

from support.cfgs import net, normalized
from yolotf import _core
from yolotf.darknet.cfg import parse_cfg
from yolotf.graphs import onednn, tf_operations


@pytest.fixture
def processor(monkeypatch):
    """A processor with AVX-512 and an environment that says nothing."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(_core, "has_avx512", lambda: True)
    for name in (onednn.SWITCH, *onednn._LIMITS):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def chosen(enabled=True, right=True):
    kernels = onednn.kernels(enabled, lambda: right)
    return kernels.name, kernels.fused, kernels.optimized, kernels.reason


def test_with_avx512_convolutions_are_fused(processor):
    assert onednn.likely_fused()
    reason = "TensorFlow uses oneDNN, and oneDNN AVX-512"
    assert chosen() == ("oneDNN, fused", True, True, reason)


@pytest.mark.parametrize("variable", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
@pytest.mark.parametrize("limit", ["AVX2", "avx2_vnni", "SSE41"])
def test_where_onednn_may_not_use_avx512_nothing_is_fused(variable, limit, processor):
    processor.setenv(variable, limit)
    assert not onednn.likely_fused()
    reason = f"{variable}={limit}, and without AVX-512 oneDNN's fused operation is slow"
    assert chosen() == ("oneDNN, not fused", False, False, reason)


@pytest.mark.parametrize("limit", ["", "AVX512_CORE", "ALL", "nonsense"])
def test_other_limits_of_onednn_leave_it_avx512(limit, processor):
    processor.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert chosen()[0] == "oneDNN, fused"


def test_of_two_limits_onednn_reads_the_newer_name(processor):
    processor.setenv("DNNL_MAX_CPU_ISA", "AVX2")
    processor.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    assert chosen()[0] == "oneDNN, fused"


def test_without_avx512_nothing_is_fused(processor):
    processor.setattr(_core, "has_avx512", lambda: False)
    assert not onednn.likely_fused()
    reason = "the processor has no AVX-512, and without AVX-512 oneDNN's fused operation is slow"
    assert chosen() == ("oneDNN, not fused", False, False, reason)
    assert onednn.blocks(parse_cfg(net(5, 6) + normalized(512, 3)).layers[0]) == 1


def test_processors_other_than_x86_use_tensorflows_choice(processor):
    processor.setattr(platform, "machine", lambda: "aarch64")
    assert not onednn.likely_fused()
    reason = "oneDNN's fused operation has not been measured on aarch64"
    assert chosen() == ("TensorFlow's choice", False, True, reason)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("0", "TF_ENABLE_ONEDNN_OPTS=0"),
        ("False", "TF_ENABLE_ONEDNN_OPTS=False"),
        ("1", "TensorFlow leaves oneDNN off on this processor"),
    ],
)
def test_where_onednn_is_off_kernels_are_eigens(value, reason, processor):
    processor.setenv(onednn.SWITCH, value)
    assert onednn.likely_fused() == (value == "1")
    assert chosen(enabled=False) == ("Eigen", False, True, reason)
    assert not onednn.kernels(False, lambda: True).fuses_mish


def test_a_fused_operation_that_computes_wrongly_is_not_used(processor):
    reason = "oneDNN's fused operation is missing in this TensorFlow, or another"
    assert chosen(right=False) == ("TensorFlow's choice", False, True, reason)


def test_with_a_gpu_graphs_hold_standard_operations(monkeypatch):
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: [kind])
    kernels = tf_operations.kernels.__wrapped__()
    assert not kernels.fused
    assert kernels.optimized
