"""From a URL to a loaded model: `load_darknet_weights(model, url)`, and download, then load.

Two servers run on loopback in separate processes: S3 (moto's), and plain HTTP with ranges. Loopback
has no limited bandwidth, so this shows the overhead of each way: the disk, and requests that wait
for each other. moto reads the whole object for every range, on the same processors, so more ranges
cost more; a real S3 does not. Needs the test group (moto, s3fs).
"""

from __future__ import annotations

import argparse
import functools
import http.server
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from common import make_weights, print_table

import yolotf

_BUCKET = "models"


def main() -> None:
    """Runs all rows and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="yolov4")
    parser.add_argument("--runs", type=int, default=3)
    parsed = parser.parse_args()
    network = yolotf.network(parsed.network)
    model = yolotf.build_model(network)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.weights"
        make_weights(network, path)
        yolotf.load_darknet_weights(model, path)
        ways: dict[str, Callable[[], object]] = {
            "the file itself": lambda: yolotf.load_darknet_weights(model, path)
        }
        with serve(_serve_files, folder) as port, serve(_serve_s3) as s3_port:
            url = f"http://127.0.0.1:{port}/a.weights"
            s3_url = _put(path, s3_port)
            ways |= {
                "HTTP: download, then load": lambda: _downloaded(model, url, _by_http),
                "HTTP: load the URL": lambda: yolotf.load_darknet_weights(model, url),
                "S3: download, then load": lambda: _downloaded(model, s3_url, _by_s3fs),
                "S3: load the URL": lambda: yolotf.load_darknet_weights(model, s3_url),
            }
            rows = [
                (name, *(f"{seconds:.2f}" for seconds in _measured(way, parsed.runs)))
                for name, way in ways.items()
            ]
        size = path.stat().st_size
    print_table(f"{parsed.network}, {size:,} bytes: seconds", ("way", "median", "first"), rows)


def _measured(way: Callable[[], object], runs: int) -> tuple[float, float]:
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        way()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), seconds[0]


def _downloaded(model: Any, url: str, download: Callable[[str, Path], None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "b.weights"
        download(url, path)
        yolotf.load_darknet_weights(model, path)


def _by_http(url: str, path: Path) -> None:
    urllib.request.urlretrieve(url, path)


def _by_s3fs(url: str, path: Path) -> None:
    import s3fs

    s3fs.S3FileSystem().get_file(url, path)


def _put(path: Path, port: int) -> str:
    import boto3

    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    client = boto3.client("s3")
    client.create_bucket(Bucket=_BUCKET)
    client.put_object(Bucket=_BUCKET, Key=path.name, Body=path.read_bytes())
    return f"s3://{_BUCKET}/{path.name}"


@contextmanager
def serve(server: Callable[..., None], *arguments: str) -> Iterator[int]:
    """Starts a server in a separate process; yields its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Spawned, not forked: this process has TensorFlow's threads.
    process = multiprocessing.get_context("spawn").Process(target=server, args=(port, *arguments))
    process.start()
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.join()


class _Ranges(http.server.SimpleHTTPRequestHandler):
    """An HTTP server with ranges, for which Python's own sends the whole file."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        size = path.stat().st_size
        first, last = 0, size - 1
        if wanted := self.headers.get("Range"):
            first, last = (int(text) for text in wanted.removeprefix("bytes=").split("-"))
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        with path.open("rb") as file:
            self.wfile.flush()
            os.sendfile(self.connection.fileno(), file.fileno(), first, last + 1 - first)

    def log_message(self, *_: object) -> None:
        pass


def _serve_files(port: int, folder: str) -> None:
    handler = functools.partial(_Ranges, directory=folder)
    http.server.ThreadingHTTPServer(("127.0.0.1", port), handler).serve_forever()


def _serve_s3(port: int) -> None:
    from moto.server import main as moto

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.dup2(2, 1)
    moto(["-H", "127.0.0.1", "-p", str(port)])


if __name__ == "__main__":
    main()
