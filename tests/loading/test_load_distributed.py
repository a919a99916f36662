"""Loading onto several devices: two logical CPUs, which only a fresh process can be given."""

import functools
import json
import sys
import tempfile
import traceback
from pathlib import Path

import numpy as np
import pytest

import yolotf
from support import load_helpers as loading
from support import numpy_loader
from support.load_helpers import EVERYTHING, PLAIN, build, content
from yolotf import errors
from yolotf.models.variables import plain
from yolotf.weights import write as writing
from yolotf.weights.plan import replicas

CPUS = ("/device:CPU:0", "/device:CPU:1")


class Scenarios:
    """Each method runs in one process that has two CPUs; `folder` is empty when it starts."""

    def __init__(self, folder):
        self.path = folder / "a.weights"
        self.path.write_bytes(content(EVERYTHING))

    def every_replica_gets_the_bytes(self):
        expected = plain_copy(EVERYTHING, self.path)
        for inside in (False, True):
            strategy, model = mirrored(EVERYTHING)
            with strategy.scope() if inside else null():
                report = yolotf.load_darknet_weights(model, self.path)
            replicas = by_device(model)
            assert replicas.keys() == set(CPUS)
            for device in CPUS:
                assert loading.same(replicas[device], expected), device
            assert report.variables == 2 * len(model.weights)
            assert report.floats == sum(int(np.prod(v.shape)) for v in model.weights)
            # The op would have to be called for each device: another file could come in between.
            assert report.path_taken == "portable"

    def a_failure_leaves_every_replica_as_it_was(self):
        _, model = mirrored(PLAIN)
        good = content(PLAIN)
        negative = bytearray(good)
        negative[212:216] = np.float32(-1).tobytes()
        for data, error in (
            (good[:-1], errors.SizeMismatchError),
            (good + b"x", errors.SizeMismatchError),
            (good[:15], errors.HeaderError),
            (bytes(negative), errors.ContentError),
        ):
            self.path.write_bytes(data)
            refused(model, self.path, error)
        self.path.unlink()
        refused(model, self.path, FileNotFoundError)

    def a_variable_that_fits_on_one_device_only_is_refused(self):
        import tensorflow as tf

        self.path.write_bytes(content(PLAIN))
        for broken in (tf.ones([15]), tf.ones([16], tf.float16)):
            _, model = mirrored(PLAIN)
            gamma = plain(model.get_layer("conv_0_bn").gamma)
            first, second = gamma.values
            with tf.device(CPUS[1]):
                other = tf.Variable(broken)
            assert other.device.endswith("CPU:1")
            gamma._values = (first, other)
            error = refused(model, self.path, errors.ModelMismatchError)
            assert error.variable == "conv_0_bn/gamma"
            gamma._values = (first, second)

    def an_assignment_that_fails_is_undone_on_every_replica(self):
        self.path.write_bytes(content(PLAIN))
        _, model = mirrored(PLAIN)
        import tensorflow as tf

        assign, calls = tf.raw_ops.AssignVariableOp, []

        def fail_in_the_load(**arguments):
            calls.append(arguments)
            if len(calls) == 10:
                raise MemoryError
            return assign(**arguments)

        tf.raw_ops.AssignVariableOp = fail_in_the_load
        try:
            refused(model, self.path, MemoryError)
        finally:
            tf.raw_ops.AssignVariableOp = assign
        assert len(calls) > 10

    def a_distributed_function_sees_the_new_weights(self):
        import tensorflow as tf

        strategy, model = mirrored(PLAIN)
        picture = np.random.default_rng(0).random((1, 16, 16, 3), np.float32)

        @tf.function
        def run(x):
            return strategy.run(
                lambda y: tf.convert_to_tensor(first(model(y, training=False))), [x]
            )

        single = build(PLAIN)
        for seed in (1, 2):
            self.path.write_bytes(content(PLAIN, seed))
            yolotf.load_darknet_weights(model, self.path)
            yolotf.load_darknet_weights(single, self.path)
            expected = first(single(picture)).numpy()
            outputs = strategy.experimental_local_results(run(tf.constant(picture)))
            assert len(outputs) == 2
            for output in outputs:
                np.testing.assert_allclose(output.numpy(), expected, rtol=1e-5, atol=1e-5)
        assert run.experimental_get_tracing_count() == 1

    def a_model_on_the_second_device_is_loaded_by_the_op(self):
        import tensorflow as tf

        expected = plain_copy(EVERYTHING, self.path)
        with tf.device(CPUS[1]):
            model = build(EVERYTHING)
        assert {v.device[-13:] for v in raw(model)} == {CPUS[1]}
        for device in (None, *CPUS):
            loading.scramble(model)
            with tf.device(device):
                report = yolotf.load_darknet_weights(model, self.path)
            assert report.path_taken == "op"
            assert loading.same(loading.snapshot(model), expected)

    def a_model_on_two_devices_is_loaded_at_once(self):
        import tensorflow as tf

        self.path.write_bytes(content(PLAIN))
        expected = plain_copy(PLAIN, self.path)
        model = build(PLAIN)
        kernel = model.get_layer("conv_1").kernel
        with tf.device(CPUS[1]):
            kernel._value = tf.Variable(tf.zeros(kernel.shape))
        assert len({v.device for v in raw(model)}) == 2
        report = yolotf.load_darknet_weights(model, self.path)
        assert report.path_taken == "portable"
        assert loading.same(loading.snapshot(model), expected)
        self.path.write_bytes(content(PLAIN)[:-8])
        refused(model, self.path, errors.SizeMismatchError)

    def a_file_replaced_between_the_devices_does_not_part_them(self):
        """Whatever moment the file changes at, both replicas are of one file."""
        self.path.write_bytes(content(PLAIN, 1))
        _, model = mirrored(PLAIN)
        other = self.path.with_suffix(".other")
        native = writing._core.scatter

        def scatter_and_replace(*arguments, **options):
            result = native(*arguments, **options)
            other.write_bytes(content(PLAIN, 2))
            other.replace(self.path)
            return result

        expected = plain_copy(PLAIN, self.path)
        writing._core.scatter = scatter_and_replace
        try:
            yolotf.load_darknet_weights(model, self.path)
        finally:
            writing._core.scatter = native
        replicas = by_device(model)
        assert loading.same(replicas[CPUS[0]], expected)
        assert loading.same(replicas[CPUS[1]], expected)

    def a_model_of_another_process_is_loaded_from_here(self):
        """The file need not be there, nor the op. Last: it makes this process part of a cluster."""
        import tensorflow as tf

        self.path.write_bytes(content(PLAIN))
        expected = plain_copy(PLAIN, self.path)
        server = tf.distribute.Server.create_local_server()
        tf.config.experimental_connect_to_host(
            server.target.removeprefix("grpc://"), job_name="worker"
        )
        with tf.device("/job:worker/replica:0/task:0/device:CPU:0"):
            model = build(PLAIN)
        assert {v.device for v in raw(model)} == {"/job:worker/replica:0/task:0/device:CPU:0"}
        report = yolotf.load_darknet_weights(model, self.path)
        assert report.path_taken == "portable"
        assert loading.same(loading.snapshot(model), expected)


def names():
    return [name for name in vars(Scenarios) if not name.startswith("_")]


def null():
    import contextlib

    return contextlib.nullcontext()


def first(outputs):
    return outputs[0] if isinstance(outputs, list) else outputs


def mirrored(text):
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(CPUS)
    with strategy.scope():
        model = build(text)
    return strategy, model


def raw(model):
    return [plain(weight) for weight in model.weights]


def by_device(model):
    """The bits of each weight on each device."""
    values_by_device = {}
    for weight in model.weights:
        for replica in replicas(plain(weight)):
            device = values_by_device.setdefault(replica.device[-13:], {})
            device[loading.variable_name(weight)] = loading.bits(replica.numpy())
    return values_by_device


def plain_copy(text, path):
    """The variables that a plain loader sets, on one device."""
    model = build(text)
    numpy_loader.load(model, text, path.read_bytes())
    return loading.snapshot(model)


def refused(model, path, error):
    random = np.random.default_rng(5)
    for variable in raw(model):
        for replica in replicas(variable):
            replica.assign(random.random(replica.shape).astype(replica.dtype.as_numpy_dtype))
    before = by_device(model)
    with pytest.raises(error) as caught:
        yolotf.load_darknet_weights(model, path)
    assert type(caught.value) is error
    after = by_device(model)
    assert after.keys() == before.keys() == set(CPUS)
    for device in before:
        assert loading.same(after[device], before[device]), device
    return caught.value


def run_all():
    """Runs in the process with two CPUs; prints what each scenario raised."""
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    raised = {}
    for name in names():
        with tempfile.TemporaryDirectory() as folder:
            try:
                getattr(Scenarios(Path(folder)), name)()
                raised[name] = ""
            except BaseException:
                raised[name] = traceback.format_exc()
    json.dump(raised, sys.stdout)


@functools.cache
def raised():
    printed = loading.run_python("import test_load_distributed as t; t.run_all()")
    return json.loads(printed.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("scenario", names())
def test_two_devices(scenario):
    assert raised()[scenario] == ""
