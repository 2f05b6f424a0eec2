"""pytest --simgpu: a fresh device for every test, races fail it, the rest is as ever."""

import subprocess
import sys

import pytest

from toolkit.course import ROOT

TESTS = """
import pytest
import torch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def sum_on_a_side_stream(wait):
    side = torch.cuda.Stream()
    x = torch.ones(8, device="cuda")
    if wait:
        side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        return x.sum()


def test_right():
    assert torch.cuda.memory_allocated() == 0
    assert sum_on_a_side_stream(wait=True).device.type == "cuda"


def test_race():
    sum_on_a_side_stream(wait=False)


def test_right_after_a_race():
    sum_on_a_side_stream(wait=True)


def test_wrong_number():
    assert sum_on_a_side_stream(wait=False).item() == 9


@pytest.mark.xfail(raises=NotImplementedError)
def test_not_modelled():
    torch.cuda.memory_snapshot()
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suite")
    (folder / "test_program.py").write_text(TESTS)

    def call(*flags):
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "toolkit.simgpu.pytest_plugin"]
        where = {"cwd": folder, "env": {"PYTHONPATH": str(ROOT), "PATH": "", "CUDA_VISIBLE_DEVICES": ""}}
        return subprocess.run([*command, *flags], capture_output=True, text=True, timeout=120, **where).stdout

    return call


def test_a_race_fails_the_test_that_has_it(run):
    out = run("--simgpu", "--simgpu-policy", "lazy")
    assert "simgpu: cuda is simulated, policy lazy" in out
    assert "2 failed, 2 passed, 1 xfailed" in out
    assert "FAILED test_program.py::test_race - Failed: RACE on (8,) float32 buffer" in out
    assert "FAILED test_program.py::test_wrong_number - " in out and "simgpu call" in out
    assert "simgpu: 1 race, 1 missing edge" in out
    assert "simgpu: 3 races, 2 missing edges" in out, "with the failed assertion too, whose message reads it"


def test_without_the_option_nothing_is_simulated(run):
    assert "5 skipped" in run()
