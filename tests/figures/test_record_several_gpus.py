"""Two GPUs beside one: what is put together of the engines' answers, and engines in processes of their own."""

import pytest
import torch

from figures.several_gpus import record
from tests.simulated import needs_simulator
from toolkit.errors import UserError


class Answers:
    """An engine that has its answers ready."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.told = []

    def tell(self, command):
        self.told.append(command)

    def answer(self):
        return self.answers.pop(0)


def test_together_counts_from_the_first_start_to_the_last_end():
    """An engine that starts late, or is slow, makes both take longer."""
    one = Answers({}, {"start": 10.0, "end": 12.0, "tokens": 300, "active": 0.99})
    other = Answers({}, {"start": 10.5, "end": 13.0, "tokens": 300, "active": 0.9})
    row = record.together([one, other])
    assert row.pop("seconds_each") == "2.0000 2.5000"
    assert row == {"tokens": 600, "seconds": 3.0, "tokens_per_s": 200.0, "run_active": 0.9}
    assert one.told == other.told == ["get ready", "run"]


def test_of_several_runs_the_median_is_kept():
    runs = [{"tokens_per_s": speed, "seconds": 1 / speed} for speed in (3.0, 1.0, 2.0)]
    assert record.of_median_speed(runs) == {"tokens_per_s": 2.0, "seconds": 0.5, "tokens_per_s_rounds": "3.0 1.0 2.0"}


def test_what_an_engine_cannot_know_stays_open():
    engines = [Answers({"host_ms": 1.0, "kernel_active": None}), Answers({"host_ms": 2.0, "kernel_active": None})]
    assert record.activity(engines) == {"host_ms": 1.5, "kernel_active": None}


@pytest.mark.skipif(torch.cuda.device_count() > 1, reason="this machine has several GPUs")
def test_too_few_gpus_are_one_line():
    with pytest.raises(UserError, match="needs 2 NVIDIA GPUs, and torch sees [01] here"):
        record.record(torch.device("cpu"))


@needs_simulator
def test_an_engine_that_ends_is_one_line(capfd):
    """The error that ended it stays on stderr."""
    with pytest.raises(UserError, match="an engine has ended, with exit code 1"), record.engines(1, "none", 2, 240):
        pytest.fail("there is no such model")
    assert "none" in capfd.readouterr().err


@pytest.mark.long
@needs_simulator
def test_engines_serve_alone_and_together():
    """The same load twice, or once on each of two; one row for each number of engines."""
    rows = record.compare("tiny", 2, 240)
    assert [(row["replicas"], row["tokens"]) for row in rows] == [(1, 480), (2, 960)]
    assert all(row["tokens_per_s"] > 0 and row["host_ms"] > 0 for row in rows)
