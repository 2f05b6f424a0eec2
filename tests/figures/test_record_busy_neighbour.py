"""The recording of the engine beside a busy neighbour, and that the engine writes its inputs with one thread."""

import os
from pathlib import Path

import pytest
import torch

from figures.busy_neighbour import record as busy_neighbour
from tests.simulated import needs_simulator
from toolkit import device

pytestmark = needs_simulator


def test_both_ways_are_recorded_alone_and_with_a_neighbour(monkeypatch: pytest.MonkeyPatch):
    """Four rows, each with its tokens; the neighbour has gone afterwards."""
    monkeypatch.setattr(busy_neighbour, "START_SECONDS", 0.0)
    monkeypatch.setattr(busy_neighbour, "NEW_TOKENS", 6)
    rows = busy_neighbour.record(torch.device("cpu"))["busy_neighbour"]
    assert [(row["host_threads"], row["neighbour"]) for row in rows] == [
        ("one", False),
        ("all", False),
        ("one", True),
        ("all", True),
    ]
    assert all(row["tokens_per_s"] > 0 and row["clock"] == "simulated" for row in rows)


def cpu_ticks_of_others() -> int:
    """Processor time, in ticks, of this process's threads other than the one that asks."""
    ticks = 0
    for task in Path("/proc/self/task").iterdir():
        if int(task.name) != os.getpid():
            fields = (task / "stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc, which Linux has")
def test_inputs_are_written_by_one_thread(monkeypatch: pytest.MonkeyPatch):
    """Torch's own copy of these tensors makes other threads work; the engine's does not."""
    monkeypatch.setattr(device, "is_simulated", lambda: False)
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    host, values = (torch.zeros(2000, 4000, dtype=torch.int32) for _ in range(2))
    values += 1
    try:
        before = cpu_ticks_of_others()
        for _ in range(100):
            host.copy_(values)
        by_torch = cpu_ticks_of_others() - before
        host.zero_()
        torch.set_num_threads(4)
        before = cpu_ticks_of_others()
        for _ in range(100):
            device.write_host(host, values)
        by_us = cpu_ticks_of_others() - before
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(host, values)
    assert by_torch > 5, f"torch was to spread its copies over 4 threads; the others worked for {by_torch} ticks"
    assert by_us * 5 < by_torch, f"the other threads worked for {by_us} ticks, with torch's copies for {by_torch}"


def test_the_beginning_is_written_in_every_dimension(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(device, "is_simulated", lambda: False)
    host = torch.zeros(3, 4, dtype=torch.int32)
    device.write_host(host, torch.tensor([[1, 2], [3, 4]], dtype=torch.int32))
    assert host.tolist() == [[1, 2, 0, 0], [3, 4, 0, 0], [0, 0, 0, 0]]
