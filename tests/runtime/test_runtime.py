"""The runtime: TensorFlow's kernels without its Python, in every order of events."""

import copy
import json
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import yolotf
from support import helpers, messages, numpy_loader
from support.cfgs import conv, net, yolo
from support.networks_of_sections import SECTIONS, SMALL, around
from yolotf import _core, _runtime
from yolotf.darknet.cfg import parse_cfg
from yolotf.errors import ContentError, SizeMismatchError, TensorFlowError
from yolotf.graphs import onednn
from yolotf.graphs.folded_network import FoldedNetwork
from yolotf.inference.detector import Detector
from yolotf.inference.function_builder import build_function
from yolotf.runtime import network, tensorflow_library
from yolotf.runtime.graph import Operations
from yolotf.runtime.network import RuntimeNetwork


@pytest.fixture
def small_file(tmp_path):
    def make(seed=0, text=SMALL):
        path = tmp_path / f"{seed}.weights"
        path.write_bytes(numpy_loader.random_file(text, seed))
        return path

    return make


@pytest.mark.slow
@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("name", SECTIONS)
def test_every_section_computes_what_the_function_does(name, onednn, tmp_path, monkeypatch):
    if not onednn:
        monkeypatch.setattr(_runtime, "onednn_enabled", lambda: False)
    text = around(SECTIONS[name])
    path = tmp_path / "a.weights"
    path.write_bytes(numpy_loader.random_file(text, seed=len(text)))
    described = parse_cfg(text)
    folded = FoldedNetwork(described, use_onednn=False)
    folded.load(path)
    pictures = np.random.default_rng(1).random((2, *described.input_shape), np.float32)
    expected = tf.function(folded, autograph=False)(pictures)
    ours = RuntimeNetwork(described)
    heads = ours.raw_heads(pictures, ours.load(path))
    strided = np.repeat(pictures, 2, axis=-1)[..., ::2]
    for head, other in zip(ours.raw_heads(strided, ours.load(path)), heads, strict=True):
        np.testing.assert_array_equal(head, other)
    assert len(heads) == len(expected)
    for head, other in zip(heads, expected, strict=True):
        assert head.shape == other.shape
        np.testing.assert_allclose(head, other, rtol=0, atol=1e-5 * np.abs(other).max())


@pytest.mark.parametrize("sections", ["[empty]", "[upsample]\nstride=1", "[implicit]\nfilters=3"])
def test_an_input_of_the_graph_can_be_its_output(sections, tmp_path):
    text = f"[net]\nheight=2\nwidth=4\nchannels=3\n{sections}\n"
    path = tmp_path / "a.weights"
    path.write_bytes(numpy_loader.random_file(text))
    ours = RuntimeNetwork(parse_cfg(text))
    images = np.random.default_rng(1).random((2, 2, 4, 3), np.float32)
    (head,) = ours.raw_heads(images, ours.load(path))
    arrays = numpy_loader.arrays(text, path.read_bytes())
    constants = [np.tile(array.reshape(1, 1, 1, 3), (2, 1, 1, 1)) for array in arrays.values()]
    (expected,) = constants or [images]
    np.testing.assert_array_equal(head, expected)


def test_split_channels_are_joined_where_needed(tmp_path, monkeypatch):
    """Wide convolutions, and after them sections that do or do not accept channels in blocks."""
    monkeypatch.setattr(_core, "has_avx512", lambda: True)  # so that there are blocks
    wide = "[convolutional]\nfilters=256\nsize=3\npad=1\nactivation="
    text = around(
        f"{wide}leaky\n"  # 2
        "[route]\nlayers=-1\ngroups=2\ngroup_id=1\n"  # whole blocks
        "[route]\nlayers=2\ngroups=8\ngroup_id=5\n"  # a part of one
        "[route]\nlayers=3,2,4\n[maxpool]\nsize=2\nstride=2\n"
        "[convolutional]\nfilters=5\nsize=1\nactivation=mish\n"
        f"[route]\nlayers=6\n{wide}normalize_channels_softmax\n[local_avgpool]\nsize=3\n"
        f"stride=1\n[route]\nlayers=6\n{wide}tanh\n"
        "[route]\nlayers=12,12\ngroups=4\ngroup_id=3\n"
        "[route]\nlayers=-1,7,10,6"
    )
    path = tmp_path / "a.weights"
    path.write_bytes(numpy_loader.random_file(text, seed=2))
    described = parse_cfg(text)
    folded = FoldedNetwork(described, use_onednn=False)
    folded.load(path)
    pictures = np.random.default_rng(1).random((2, *described.input_shape), np.float32)
    (expected,) = tf.function(folded, autograph=False)(pictures)
    ours = RuntimeNetwork(described)
    assert not ours.graph.onednn or ours.graph.blocks_of("2/kernel") == 4
    (head,) = ours.raw_heads(pictures, ours.load(path))
    assert head.shape == expected.shape
    np.testing.assert_allclose(head, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_an_operation_of_another_tensorflow_is_tried_first(monkeypatch):
    assert network.matches_reference()
    monkeypatch.setattr(_runtime, "version", lambda: "2.99.0")
    monkeypatch.setattr(network, "_checked", {})
    assert network.kernels().fused == (_runtime.onednn_enabled() and onednn.has_avx512())
    monkeypatch.setattr(network, "_checked", {})
    monkeypatch.setattr(network, "matches_reference", lambda: False)
    assert not network.kernels().fused


def test_errors_of_the_graph_builder_are_explained():
    tensorflow_library.load()
    ops = Operations()
    x = ops.placeholder([1, 2])
    with messages.refused(TensorFlowError, hide=r"(?s)(?<=graph: ).*") as error:
        ops.MatMul(a=x, b=x)
    assert error.value.tensorflow_code == "INVALID_ARGUMENT"
    assert "\n" not in str(error.value)
    assert "Dimensions must be equal" in error.value.said
    with messages.refused(AttributeError):
        ops.Nonsense(x=x)


@pytest.mark.parametrize("missing", ["both", "cc"])
def test_a_missing_library_is_named(missing, tmp_path):
    if missing == "cc":
        (tmp_path / tensorflow_library.FRAMEWORK).write_bytes(b"no library")
    with messages.refused(ImportError):
        tensorflow_library._open_libraries(tmp_path)


def test_invalid_libraries_are_named(tmp_path):
    for name in (tensorflow_library.FRAMEWORK, tensorflow_library.CC):
        (tmp_path / name).write_bytes(b"no library")
    run(
        """
        import sys
        from pathlib import Path
        from yolotf.runtime import library
        try:
            library._open_libraries(Path(sys.argv[1]))
        except ImportError as error:
            assert sys.argv[1] in str(error), error
        else:
            raise AssertionError
        """,
        tmp_path,
    )


def test_other_libraries_are_named_with_the_missing_symbol(tmp_path):
    some_library = Path(yolotf._core.__file__)
    for name in (tensorflow_library.FRAMEWORK, tensorflow_library.CC):
        (tmp_path / name).write_bytes(some_library.read_bytes())
    done = run(
        """
        import sys
        from pathlib import Path
        from yolotf.runtime import library
        try:
            library._open_libraries(Path(sys.argv[1]))
        except ImportError as error:
            print(error)
        else:
            raise AssertionError
        """,
        tmp_path,
    )
    messages.said(done.stdout, hide=r"libtensorflow_cc\S+(?=:)")


def test_calls_before_open_are_refused():
    done = run(
        """
        import numpy as np
        from yolotf import _core, _runtime
        for early in (_runtime.Graph, lambda: _runtime.Tensors([np.zeros(3, np.float32)])):
            try:
                early()
            except ValueError as error:
                print(error)
            else:
                raise AssertionError
        assert _runtime.version() == "" and not _runtime.onednn_enabled()
        """
    )
    messages.said(done.stdout)


def test_arrays_of_another_byte_order_are_refused():
    tensorflow_library.load()
    with messages.refused(TypeError):
        _runtime.Tensors([np.zeros(3, ">f4")])


@pytest.mark.slow
def test_every_network_has_its_own_threads(files):
    """Each session's thread pools have the requested size, whatever the first session's have."""
    run(
        """
        import os, sys
        import numpy as np
        import yolotf

        def threads_of(count):
            before = len(os.listdir("/proc/self/task"))
            detector = yolotf.Detector(yolotf.parse_cfg(sys.argv[1]), sys.argv[2], threads=count)
            detector(np.zeros((32, 64, 3), np.uint8))
            kept.append(detector)
            return len(os.listdir("/proc/self/task")) - before

        kept = []
        threads_of(2)  # and what TensorFlow starts once
        few, many = threads_of(1), threads_of(9)
        assert many - few >= 8, (few, many)
        """,
        *files,
    )


def run(code, *arguments, **environment):
    """Runs code in a fresh process; its output."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(yolotf.__file__).parents[1],
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done


ANSWER = """
    import sys
    import numpy as np
    import yolotf
    def answer(threads=None):
        options = {"score_threshold": 0.2, "threads": threads}
        detector = yolotf.Detector(yolotf.parse_cfg(sys.argv[1]), sys.argv[2], **options)
        found = detector(np.random.default_rng(1).integers(0, 256, (32, 64, 3)).astype(np.uint8))
        return found.to_dict()
"""


@pytest.fixture
def files(tmp_path, small_file):
    (tmp_path / "small.cfg").write_text(SMALL)
    return tmp_path / "small.cfg", small_file(3)


@pytest.mark.slow
def test_nothing_is_imported_and_stderr_is_empty(files):
    done = run(
        ANSWER
        + """
    assert answer()["detections"]
    assert not {"tensorflow", "keras", "tf_keras", "PIL"} & set(sys.modules)
    """,
        *files,
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_stderr_of_others_is_kept_while_tensorflow_is_opened():
    done = run(
        """
        import os
        from yolotf.runtime import library
        with library._quiet():
            os.write(2, b"I0000 00:00:1 port.cc:1] chatter\\nsomething else\\n")
        os.write(2, b"after\\n")
        """
    )
    assert done.stderr == "something else\nafter\n"


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_tensorflow_may_be_imported_in_the_same_process(when, files):
    code = """
    import tensorflow as tf
    assert float(tf.linalg.matmul(tf.ones([2, 3]), tf.ones([3, 2]))[0, 0]) == 3
    """
    ask = "\n    first = answer()\n    assert first['detections']\n"
    run(ANSWER + (code + ask if when == "before" else ask + code + ask), *files)


@pytest.mark.slow
def test_answers_do_not_depend_on_onednn_and_threads(files):
    code = ANSWER + "\n    import json\n    print(json.dumps(answer(int(sys.argv[3]))))"
    answers = [
        run(code, *files, threads, **environment).stdout
        for threads, environment in ((1, {}), (3, {}), (2, {"TF_ENABLE_ONEDNN_OPTS": "0"}))
    ]
    first, *others = [json.loads(answer)["detections"] for answer in answers]
    for other in others:
        assert len(other) == len(first) > 0
        for detection, two in zip(first, other, strict=True):
            assert detection["class"] == two["class"]
            assert detection["score"] == pytest.approx(two["score"], abs=1e-5)
            assert detection["xyxy"] == pytest.approx(two["xyxy"], abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_started_before_the_first_detector(method, files, tmp_path):
    code = textwrap.dedent(ANSWER) + textwrap.dedent(
        f"""
        import multiprocessing
        def child(queue):
            queue.put(answer())
        if __name__ == "__main__":
            context = multiprocessing.get_context({method!r})
            queue = context.Queue()
            process = context.Process(target=child, args=(queue,))
            process.start()
            assert queue.get(timeout=60) == answer()
            process.join()
        """
    )
    script = tmp_path / "script.py"  # spawned processes read it again
    script.write_text(code)
    subprocess.run(
        [sys.executable, str(script), *map(str, files)],
        check=True,
        cwd=Path(yolotf.__file__).parents[1],
        env={**os.environ, "PYTHONPATH": str(Path(yolotf.__file__).parents[1])},
    )


@pytest.mark.slow
def test_detectors_in_a_process_forked_too_late_are_refused(files):
    done = run(
        ANSWER
        + """
    import os
    detector = yolotf.Detector(yolotf.parse_cfg(sys.argv[1]), sys.argv[2])
    picture = np.zeros((32, 64, 3), np.uint8)
    detector(picture)
    child = os.fork()
    if child == 0:
        for late in (lambda: detector(picture), answer, lambda: detector.reload(sys.argv[2])):
            try:
                late()
            except yolotf.YolotfError as error:
                print(f"{error.code}: {error}", flush=True)
                if not isinstance(error, RuntimeError):
                    os._exit(1)
            else:
                os._exit(2)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    detector(picture)
    """,
        *files,
    )
    messages.said(done.stdout)


@pytest.mark.slow
def test_a_forked_child_ends_without_waiting(files):
    """The child has no threads of its parent's sessions, and must not wait for them."""
    run(
        ANSWER
        + """
    import os
    detector = yolotf.Detector(yolotf.parse_cfg(sys.argv[1]), sys.argv[2])
    detector(np.zeros((32, 64, 3), np.uint8))
    if os.fork() == 0:
        del detector
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
    """,
        *files,
    )


@pytest.mark.slow
def test_a_process_forked_from_one_that_ran_tensorflow(files):
    run(
        ANSWER
        + """
    import os
    import tensorflow as tf
    assert float(tf.linalg.matmul(tf.ones([2, 3]), tf.ones([3, 2]))[0, 0]) == 3
    if os.fork() == 0:
        os._exit(0 if answer()["detections"] else 1)
    assert os.wait()[1] == 0
    """,
        *files,
    )


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.02, 0.05, 0.1])
def test_python_ends_under_threads_that_detect(seconds, files):
    done = run(
        ANSWER
        + """
    import threading, time
    detector = yolotf.Detector(yolotf.parse_cfg(sys.argv[1]), sys.argv[2])
    picture = np.zeros((320, 640, 3), np.uint8)
    begun = threading.Barrier(4)
    def detect():
        begun.wait()
        while True:
            detector(picture)
    for _ in range(3):
        threading.Thread(target=detect, daemon=True).start()
    begun.wait()
    time.sleep(float(sys.argv[3]))
    """,
        *files,
        seconds,
    )
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("work", ["reload", "openvino", "onnxruntime", "function"])
def test_python_ends_under_threads_that_do_other_native_work(work, files):
    if work in ("openvino", "onnxruntime"):
        pytest.importorskip(work)
    done = run(
        """
    import sys, threading, time
    import numpy as np
    import yolotf
    network, weights, work = yolotf.parse_cfg(sys.argv[1]), *sys.argv[2:]
    pictures = np.zeros((8, 320, 640, 3), np.uint8)
    if work == "function":
        function = yolotf.build_function(network, weights)
        call = lambda: function(pictures)
    elif work == "reload":
        detector = yolotf.Detector(network, weights)
        call = lambda: detector.reload(weights)
    else:
        detector = yolotf.Detector(network, weights, engine=work, batch_size=8)
        call = lambda: detector(pictures)
    begun = threading.Barrier(4)
    def loop():
        begun.wait()
        while True:
            call()
    for _ in range(3):
        threading.Thread(target=loop, daemon=True).start()
    begun.wait()
    time.sleep(0.1)
    """,
        *files,
        work,
        TF_CPP_MIN_LOG_LEVEL="3",
    )
    assert "terminate" not in done.stderr


LONG_RUN = """
    import sys, threading, time
    import numpy as np
    import yolotf
    from yolotf import _runtime
    _runtime.set_wait_at_end(0.05)
    detector = yolotf.Detector(yolotf.parse_cfg(sys.argv[1]), sys.argv[2], threads=2)
    picture = np.zeros((320, 320, 3), np.uint8)
    detector(picture)
    threading.Thread(target=lambda: detector([picture] * 8), daemon=True).start()
    time.sleep(0.3)
    print("printed", end="")
    sys.exit(7)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="on_exit is glibc's")
def test_python_ends_with_its_own_code_under_a_run_that_takes_too_long(tmp_path):
    # 3x3: for 11x11 oneDNN without AVX-512 has only its reference, which takes minutes.
    text = net(320) + conv(32, 3) + conv(128, 3) + conv(128, 3) + conv(128, 3) + conv(18)
    text += yolo(1, "4,4, 8,8, 16,16")
    helpers.write_weights(tmp_path / "a.weights", yolotf.parse_cfg(text), scale=0.01)
    command = [sys.executable, "-c", textwrap.dedent(LONG_RUN), text, tmp_path / "a.weights"]
    for _ in range(3):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (7, "printed", "")


@pytest.mark.slow
def test_many_detectors_are_made_at_once(files):
    run(
        ANSWER
        + """
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(6) as pool:
        first, *others = pool.map(lambda number: answer(1 + number % 3), range(12))
    assert first["detections"]
    for other in others:
        assert len(other["detections"]) == len(first["detections"])
    """,
        *files,
    )


@pytest.mark.slow
def test_tensorflows_log_is_shown_when_its_level_is_set(files):
    code = ANSWER + "\n    assert answer()['detections']"
    shown = run(code, *files, TF_CPP_MIN_LOG_LEVEL="0").stderr.encode()
    assert any(map(tensorflow_library._LOG_LINE.match, shown.splitlines())), shown


@pytest.mark.slow
def test_an_interrupted_reload_changes_nothing(files, small_file):
    """After Ctrl-C at any moment of a reload, answers come from one file; the next reload works."""
    run(
        ANSWER
        + """
    import os, signal, threading, time
    network = yolotf.parse_cfg(sys.argv[1])
    picture = np.random.default_rng(1).integers(0, 256, (32, 64, 3)).astype(np.uint8)
    ask = lambda detector: detector(picture).to_dict()
    allowed = [ask(yolotf.Detector(network, file, score_threshold=0.2)) for file in sys.argv[2:4]]
    detector = yolotf.Detector(network, sys.argv[2], score_threshold=0.2)
    interrupted = 0
    for number in range(60):
        before = detector.weights.path
        timer = threading.Timer(number * 5e-5, os.kill, (os.getpid(), signal.SIGINT))
        try:
            timer.start()
            detector.reload(sys.argv[2 + number % 2])
            while timer.is_alive():
                time.sleep(1e-4)
            time.sleep(1e-2)
        except KeyboardInterrupt:
            interrupted += 1
        timer.join()
        place = sys.argv[2:4].index(detector.weights.path)
        assert ask(detector) == allowed[place]
    assert interrupted == 60, interrupted
    for place, file in enumerate(sys.argv[2:4]):
        detector.reload(file)
        assert ask(detector) == allowed[place]
    """,
        *files,
        small_file(4),
    )


def test_a_gpu_takes_the_function(files, monkeypatch):
    described = parse_cfg(files[0])
    image = np.random.default_rng(1).integers(0, 256, (2, 50, 70, 3)).astype(np.uint8)
    expected = Detector(described, files[1], score_threshold=0.2)(list(image))
    monkeypatch.setattr(tensorflow_library, "has_gpu", lambda: True)
    detector = Detector(described, files[1], score_threshold=0.2)
    assert not isinstance(detector._served.engine, RuntimeNetwork)
    detector.reload(files[1])
    for detections, other in zip(detector(list(image)), expected, strict=True):
        np.testing.assert_allclose(detections.scores, other.scores, atol=1e-5)
        np.testing.assert_allclose(detections.xyxy, other.xyxy, atol=1e-3)


@pytest.mark.slow
def test_memory_is_freed_with_its_last_user(small_file):
    """Sixteen sets of 64 MB, one after the other; a leak would need 1 GB."""
    text = around("[convolutional]\nfilters=262144\nsize=3\nactivation=linear")
    ours = RuntimeNetwork(parse_cfg(text))
    path = small_file(1, text)
    pictures = np.zeros((1, 6, 8, 3), np.float32)

    def resident():
        status = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1024

    ours.raw_heads(pictures, ours.load(path))
    before = resident()
    for _ in range(16):
        ours.raw_heads(pictures, ours.load(path))
    # The allocator may keep the memory of a few.
    assert resident() - before < 500


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["short", "long", "negative variance"])
def test_a_refused_file_is_explained(kind, small_file, tmp_path):
    described, good = parse_cfg(SMALL), small_file(3)
    content = bytearray(good.read_bytes())
    if kind == "negative variance":
        content[20 + 4 * 24 : 20 + 4 * 25] = np.float32(-1).tobytes()
    bad = tmp_path / "bad.weights"
    bad.write_bytes({"short": content[:-8], "long": content + bytes(8)}.get(kind, content))
    detector = Detector(described, good)
    expected = ContentError if kind == "negative variance" else SizeMismatchError
    for attempt in (
        lambda: Detector(described, bad),
        lambda: detector.reload(bad),
        lambda: build_function(described, bad),
    ):
        with pytest.raises(expected) as error:
            attempt()
        assert error.value.diagnosis.causes
        assert str(error.value) == error.value.diagnosis.summary()
    assert detector.reloads == 0
    assert detector.weights.path == str(good)


def test_detectors_have_a_repr_and_can_be_copied(files):
    detector = Detector(
        parse_cfg(files[0]), files[1], class_names=list("abcd"), score_threshold=0.2
    )
    assert repr(detector) == f"<yolotf.Detector small.cfg, 64x32, 4 classes, {files[1]}>"
    assert detector.size == (32, 64)
    assert detector.weights.seen == detector.weights.header.seen
    image = np.random.default_rng(1).integers(0, 256, (32, 64, 3)).astype(np.uint8)
    for other in (pickle.loads(pickle.dumps(detector)), copy.deepcopy(detector)):
        assert other.class_names == detector.class_names
        assert other(image).to_dict() == detector(image).to_dict()
    detector.reload(files[1].read_bytes())
    assert detector.reloads == 1
    with messages.refused(TypeError):
        pickle.dumps(detector)


def test_letter_box_and_bgr_can_be_passed(files):
    described = parse_cfg(files[0])
    boxed = parse_cfg(SMALL.replace("channels=3", "channels=3\nletter_box=1", 1))
    image = np.random.default_rng(1).integers(0, 256, (90, 64, 3)).astype(np.uint8)
    options = {"score_threshold": 0.2}
    plain = Detector(described, files[1], **options)(image).to_dict()
    letter = Detector(boxed, files[1], **options)(image).to_dict()
    assert plain != letter
    assert Detector(described, files[1], letter_box=True, **options)(image).to_dict() == letter
    assert Detector(boxed, files[1], letter_box=False, **options)(image).to_dict() == plain
    turned = Detector(described, files[1], bgr=True, **options)(image[..., ::-1]).to_dict()
    assert turned == plain


def test_cfg_warnings_are_python_warnings(files):
    text = SMALL.replace("stride=2\n", "stride=2\nsomething odd\n", 1)
    with messages.warned(UserWarning):
        Detector(parse_cfg(text), files[1])


def test_the_registered_factory_makes_the_exceptions():
    """The libraries are opened by hand, before any factory is registered."""
    run(
        """
        import importlib.util, pathlib, sys
        from yolotf import _runtime
        folder = pathlib.Path(importlib.util.find_spec("tensorflow").origin).parent
        ending = "2.dylib" if sys.platform == "darwin" else "so.2"
        _runtime.open(*(f"{folder}/libtensorflow_{name}.{ending}" for name in ("framework", "cc")))
        refused = lambda: _runtime.Graph().add("NoSuchOperation", "name", [], {})
        try:
            refused()
        except RuntimeError as error:
            code, _, message = str(error).partition(": ")
            assert code.isupper() and "NoSuchOperation" in message, error
        else:
            raise AssertionError
        _runtime.set_exception_factory(lambda message, code: LookupError(code, message))
        try:
            refused()
        except LookupError as error:
            assert error.args == (code, message)
        else:
            raise AssertionError
        """
    )
