"""The persistent engine is chapter 8's: the same outputs, step by step, whatever comes."""

import os
import subprocess
import sys
from collections import Counter
from typing import ClassVar

import pytest

from ch08_full_engine import FullEngine
from ch09_persistent_batch import PersistentEngine
from tests.ch08_full_engine.loads import Load, run_loads
from tests.ch09_persistent_batch.loads import run
from tests.simulated import needs_simulator
from toolkit.course import ROOT


@needs_simulator
@pytest.mark.parametrize("with_faults", [False, True], ids=["undisturbed", "with faults"])
@pytest.mark.parametrize("seed", [*range(6), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(6, 30))])
def test_a_random_load(seed: int, with_faults: bool):
    """Outputs, queues and free blocks after each step, and the metrics, are those of FullEngine.

    These long loads stay beside the state machine: of seven planted mistakes 25 of its loads missed two; these, none.
    """
    theirs, ours = (run(make, seed, with_faults) for make in (FullEngine, PersistentEngine))
    for number, (right, seen) in enumerate(zip(theirs, ours, strict=True)):
        assert seen == right, f"load {seed}, entry {number}: chapter 8's engine gives {right}, this one {seen}"


class Both(Load):
    """Chapter 8's engine and this chapter's, side by side."""

    makers = (FullEngine, PersistentEngine)
    met: ClassVar[Counter[str]] = Counter()


@pytest.mark.long
@needs_simulator
def test_any_load():
    """The same, and right tokens, in new loads at every run; one that fails is shrunk."""
    run_loads(Both, 200, always_the_same=False)


# Tests of chapter 8 that look into parts which this chapter has in another form; each has its counterpart here.
OTHER_PARTS = (
    "test_the_one_at_fault_fails_alone",
    "test_a_fault_late_in_a_long_prompt",
    "test_a_mistake_in_every_step_shows_its_traceback",
    "test_no_row_ever_writes_into_a_block_with_a_name",
    "test_a_mistake_that_recovery_would_hide_is_seen_mutant",
    "test_an_output_without_an_entry_costs_a_figure_only",
    "interrupt_while_figures",
)
SUITES = (
    "sweeps",
    "full_engine",
    "culprit",
    "metrics",
    "recovery",
    "server",
    "server_faults",
    "torn_step",
    "forget_prefixes",
    "no_finite_logit",
    "interrupted_recovery",
)


@pytest.mark.long
@needs_simulator
def test_chapter_8s_own_tests():
    """The sweeps, the server and all else that is asked of chapter 8's engine, asked of this one."""
    tests = [str(ROOT / "tests" / "ch08_full_engine" / f"test_{name}.py") for name in SUITES]
    others = " and ".join(f"not {name}" for name in OTHER_PARTS)
    asked = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "tests.persistent_plugin",
            "-p",
            "no:cacheprovider",
            "-m",
            "not long",
            "-k",
            others,
            *tests,
        ],
        cwd=ROOT,
        env={**os.environ, "COURSE_CODE": "solutions"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 0, asked.stdout[-3000:] + asked.stderr[-1000:]
    assert " passed" in asked.stdout
