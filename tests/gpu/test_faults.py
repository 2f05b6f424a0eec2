"""What ends a process or changes torch in it, each in a process of its own: a device assert, the stream sanitizer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.gpu
ROOT = Path(__file__).resolve().parents[2]


def run(name: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.gpu.faulty_runs", name]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=300, check=False
    )


def assert_fine(done: subprocess.CompletedProcess[str]) -> None:
    assert done.stdout.endswith("fine\n"), f"exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def test_a_device_assert_fails_each_request_once():
    """The error is sticky: each request fails once, none hangs, new ones are refused with the advice to restart."""
    assert_fine(run("device_assert"))


@pytest.mark.parametrize("engine", ["sanitized_async", "sanitized_full"])
def test_the_stream_sanitizer_finds_nothing(engine: str):
    """torch's own sanitizer, which follows every kernel's tensors and the events between streams, reports nothing."""
    assert_fine(run(engine, TORCH_CUDA_SANITIZER="1"))


def test_the_stream_sanitizer_would_have_found_it():
    """The same run with the wait for the inputs left out is reported: the sanitizer sees these streams."""
    done = run("sanitized_unordered", TORCH_CUDA_SANITIZER="1")
    report = done.stdout + done.stderr
    assert done.returncode != 0 and "data race" in report.lower(), f"no report:\n{report[-3000:]}"
