"""The engine's own work on the host is done by one thread, however many torch may use."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulated import needs_simulator

ROOT = Path(__file__).resolve().parents[2]

# In a process of its own, where torch has no other threads yet: it makes them when it first spreads something over
# them. The engine queues nothing (see host_cost), so that all that is left of a step is the host's work.
RUN = """
import os
import torch

torch.set_num_threads(1)
from toolkit.course import use

use("solutions")
from toolkit.models import load_model
from ch08_full_engine import FullEngine
from figures.host_cost import record as host_cost

ROWS, CONTEXT, STEPS = 256, 256, 5
engine = host_cost.timed_engine(FullEngine, load_model("tiny").model, ROWS, CONTEXT, STEPS)


def threads():
    return len(os.listdir("/proc/self/task"))


torch.set_num_threads(4)
before = threads()
host_cost.serve(engine, ROWS, CONTEXT, STEPS)
by_us = threads() - before
buffers = engine.executor.pool.buffers[0]
buffers.host_buffer.copy_(buffers.padding_buffer)
print(len(buffers.host_buffer), by_us, threads() - before)
"""


@pytest.mark.long
@needs_simulator
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc, which Linux has")
def test_no_step_makes_a_second_thread():
    """Whole steps: prompts and decode, packed, loaded and committed. Torch's own copy of these inputs makes some."""
    done = subprocess.run([sys.executable, "-c", RUN], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    size, by_us, by_torch = map(int, done.stdout.split())
    assert by_us == 0, f"the steps made {by_us} more threads"
    assert by_torch > 0, f"torch copies {size} bytes with one thread here: this test sees nothing"


# IO buffers that are full: 256 rows with 256 blocks each, above the size from which torch spreads a copy. Classes are
# found, not listed, so that a new one is tried as well. Torch keeps its threads: the first class that makes some is
# named.
LOADS = """
import os
import pkgutil
from importlib import import_module

import torch

from toolkit.course import use

use("solutions")
from ch03_streams.io_buffers import BufferSizes, IOBuffers, cut
from ch07_carry_over import carry_padding

import ch08_full_engine

for module in pkgutil.walk_packages(ch08_full_engine.__path__, "ch08_full_engine."):
    import_module(module.name)


def kinds(of):
    return [of, *(kind for each in of.__subclasses__() for kind in kinds(each))]


def threads():
    return len(os.listdir("/proc/self/task"))


from toolkit.device import DEVICE

for kind in kinds(IOBuffers):
    torch.set_num_threads(1)
    buffers = kind(carry_padding(BufferSizes(tokens=256, rows=256, width=256, trash_block=999, block_size=4)), DEVICE)
    inputs = cut(buffers.padding, buffers.full_decode)
    torch.set_num_threads(4)
    before = threads()
    buffers.load(inputs)
    print(kind.__name__, threads() - before)
before = threads()
buffers.padding["block_table"].clone()
print("torch", threads() - before)
"""


@pytest.mark.long
@needs_simulator
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc, which Linux has")
def test_no_buffers_are_loaded_by_a_second_thread():
    """Every kind of IO buffers in the chapters, the museum's among them."""
    done = subprocess.run([sys.executable, "-c", LOADS], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    made = {name: int(number) for name, number in map(str.split, done.stdout.splitlines())}
    by_torch = made.pop("torch")
    assert {"IOBuffers", "PackedBuffers", "QuickBuffers", "PoisonedBuffers"} <= made.keys()
    assert not any(made.values()), f"loading IO buffers made more threads: {made}"
    assert by_torch > 0, "torch copies a block table with one thread here: this test sees nothing"
