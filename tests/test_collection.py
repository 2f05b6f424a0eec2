"""What pytest collects: beside a GPU, where the simulated one is refused, and of what the list of slow tests names."""

import os
import subprocess
import sys

import pytest

from tests import slow
from toolkit.course import ROOT

A_GPU = "import torch\n\ntorch.cuda.is_available = lambda: True\n"


@pytest.mark.long
def test_the_tests_can_be_collected_beside_a_gpu(tmp_path):
    """`make testgpu` can begin: torch says that there is a GPU, and no test file asks for the simulated one."""
    (tmp_path / "a_gpu.py").write_text(A_GPU, encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    names = collected("-m", "(gpu or both) and not long", "-p", "a_gpu", PYTHONPATH=path)
    assert any(name.startswith("tests/gpu/") for name in names), "the tests that need a GPU are among them"


@pytest.mark.long
def test_the_list_of_slow_tests_names_tests():
    """One that has got another name would come back into `make test`: measure again, or correct tests/slow.txt."""
    assert collected("-m", "slow") == slow.LIST.read_text(encoding="utf-8").splitlines()


def collected(*arguments: str, **environment: str) -> list[str]:
    """The names of the tests that pytest finds and would run, sorted."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *arguments]
    environment = {**os.environ, "COURSE_CODE": "solutions", **environment}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, "\n".join(line for line in lines if line.startswith(("ERROR", "E  ")))
    return sorted(line for line in lines if line.startswith("tests/"))
