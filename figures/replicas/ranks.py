"""One model in two processes, each with a share of every layer: the command that compares it with one process."""

import os
import re
import subprocess
import sys

from toolkit import device
from toolkit.recordings import ROOT, Row


def in_shares(ranks: int = 2) -> list[Row]:
    """One model in two processes, each with a share of every layer: what the command says of it."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    command = [sys.executable, *launcher, "-m", "toolkit.commands.tensor_parallel", "--model", "tiny"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if device.is_simulated():
        environment["CUDA_VISIBLE_DEVICES"] = ""
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    equal, of = map(int, re.search(r"(\d+) of (\d+) requests", done.stdout).groups())  # type: ignore[union-attr]
    return [{"ranks": ranks, "requests": of, "equal": equal, "said": done.stdout.strip()}]
