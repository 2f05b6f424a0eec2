"""One model on two ranks, which are processes, started as a user starts them: the tokens are those of one process."""

import importlib.util
import os
import subprocess
import sys

import pytest

from toolkit.course import ROOT
from toolkit.errors import UserError
from toolkit.models.share import join, load_share

COMMAND = "toolkit.commands.tensor_parallel"
needs_accelerate = pytest.mark.skipif(
    importlib.util.find_spec("accelerate") is None,
    reason="needs accelerate: pip install -r solutions/ch10_serving/requirements.txt",
)


def run(*launcher: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *launcher, "-m", COMMAND, "--model", "tiny", "--rows", "10", "--tokens", "12"],
        cwd=ROOT,
        env={**os.environ, "COURSE_CODE": "solutions", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def ranks(number: int) -> tuple[str, ...]:
    return "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(number)


@pytest.mark.long
@needs_accelerate
def test_two_ranks_give_the_tokens_of_one_process():
    """Each with its own half of the key and value heads in its cache; requests join while others run."""
    done = run(*ranks(2))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == (
        "tiny, float32, 2 ranks (gloo), each with 1 of 2 key and value heads: 10 of 10 requests get the 12 tokens that "
        "one process gives them\n"
    )


@pytest.mark.long
@needs_accelerate
def test_heads_that_cannot_be_shared_out_are_refused():
    done = run(*ranks(4))
    assert done.returncode != 0 and done.stdout == ""
    assert "its num_key_value_heads, 2, cannot be shared by 4 ranks\n" in done.stderr
    assert "exit_cleanly" not in done.stderr, "a rank ended with a traceback"


def test_alone_it_says_how_to_start_it(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(UserError, match="this process is alone; start it with: torchrun --nproc-per-node 2 -m"):
        join()


def test_a_share_is_not_loaded_onto_the_simulated_gpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "toolkit.simgpu", None)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match="load a share before anything that uses it is imported"):
        load_share("a-folder")
