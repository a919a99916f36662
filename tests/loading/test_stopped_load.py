"""A load that is stopped while another process truncates its file is an error, not a crash.

The kernel makes the other process wait for the file's lease, 45 seconds by default, and then
takes the lease away: the pages behind the new end of the file are lost.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import yolotf
from support import messages
from support.cfgs import conv, net
from yolotf.weights import layout

NETWORK = net(32) + 8 * conv(512, 3)
BREAK_TIME = Path("/proc/sys/fs/lease-break-time")

LOADS = """
import pathlib, sys
import numpy as np
import yolotf
from yolotf.errors import FileChangedError

path, cfg = sys.argv[1:]
model = yolotf.build_model(yolotf.parse_cfg(pathlib.Path(cfg)))
before = [variable.numpy() for variable in model.weights]

def same():
    return all(np.array_equal(a.numpy(), b) for a, b in zip(model.weights, before))

print("ready", flush=True)
try:
    while True:
        yolotf.load_darknet_weights(model, path)
        for variable, old in zip(model.weights, before):
            variable.assign(old)
except FileChangedError as error:
    print(same(), error, flush=True)
"""


@pytest.fixture
def short_wait():
    """The kernel waits for a lease for one second."""
    try:
        before = BREAK_TIME.read_text()
        BREAK_TIME.write_text("1")
    except OSError as error:
        pytest.skip(f"cannot shorten the kernel's wait for leases: {error}")
    yield
    BREAK_TIME.write_text(before)


def leased(path: Path) -> bool:
    inode = f":{path.stat().st_ino} "
    return any(
        "LEASE" in lock and inode in lock for lock in Path("/proc/locks").read_text().splitlines()
    )


def stop_while_it_holds_a_lease(process: subprocess.Popen[str], path: Path) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        if leased(path):
            return
        process.send_signal(signal.SIGCONT)
        time.sleep(0.002)
    pytest.skip("no load took a lease")


@pytest.mark.slow
def test_a_stopped_load_is_an_error(tmp_path, short_wait):
    path, cfg = tmp_path / "a.weights", tmp_path / "a.cfg"
    cfg.write_text(NETWORK)
    path.write_bytes(
        bytes([0, 0, 0, 0, 2, 0, 0, 0])
        + bytes(12)
        + bytes(4 * layout.floats(yolotf.parse_cfg(NETWORK)))
    )
    with subprocess.Popen(
        [sys.executable, "-c", LOADS, path, cfg],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        stop_while_it_holds_a_lease(process, path)
        os.truncate(path, 4096)  # returns when the kernel has taken the lease
        process.send_signal(signal.SIGCONT)
        printed, log = process.communicate(timeout=60)
    assert process.returncode == 0, log
    assert printed.startswith("True ")
    messages.said(printed)
