"""`make testgpu` can begin: beside a GPU the simulated one is refused, and no test file asks for it when it is read."""

import os
import subprocess
import sys

import pytest

from toolkit.course import ROOT

A_GPU = "import torch\n\ntorch.cuda.is_available = lambda: True\n"


@pytest.mark.long
def test_the_tests_can_be_collected_beside_a_gpu(tmp_path):
    """On any machine: torch says that there is a GPU, and nothing is run."""
    (tmp_path / "a_gpu.py").write_text(A_GPU, encoding="utf-8")
    environment = {**os.environ, "COURSE_CODE": "solutions", "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "a_gpu",
        "--collect-only",
        "-q",
        "-m",
        "(gpu or both) and not long",
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, "\n".join(
        line for line in done.stdout.splitlines() if line.startswith(("ERROR", "E  "))
    )
    assert "tests/gpu/" in done.stdout, "the tests that need a GPU are among them"
