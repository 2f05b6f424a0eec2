"""transformers' continuous batching on the simulated GPU: silent and right once its missing edges are added."""

import contextlib

import pytest

pytest.importorskip("transformers")

from tests.toolkit.simgpu import transformers_batching as batching  # noqa: E402
from tests.toolkit.simgpu import transformers_verdicts as verdicts  # noqa: E402
from tests.toolkit.simgpu import transformers_windows  # noqa: E402
from toolkit import simgpu  # noqa: E402

MODES = [(False, False), (True, False), (False, True), (True, True)]


@pytest.fixture(scope="module")
def right():
    """The tokens of its synchronous mode on the CPU."""
    return batching.generate("cpu")


def run(policy, use_async, graphs, mend):
    with simgpu.as_cuda(policy, on_race="collect"), batching.mended() if mend else contextlib.nullcontext():
        return batching.generate("cuda", use_async, graphs), simgpu.races()


@pytest.mark.parametrize("policy", ["eager", pytest.param("random:1", marks=pytest.mark.long)])
@pytest.mark.parametrize(("use_async", "graphs"), MODES)
def test_with_the_missing_edges_it_is_silent_and_right(right, policy, use_async, graphs):
    tokens, races = run(policy, use_async, graphs, mend=True)
    assert not races, races[0]
    assert tokens == right


@pytest.mark.parametrize("use_async", [False, True])
def test_requests_that_are_moved_to_the_host_and_back(use_async):
    """Which is all on one stream, with pinned memory: nothing is missing there."""
    right, _ = batching.generate_offloaded("cpu", False, num_blocks=32, gib=0.0)
    with simgpu.as_cuda("lazy", on_race="collect"), batching.mended():
        tokens, moved = batching.generate_offloaded("cuda", use_async, num_blocks=6, gib=0.001)
        assert not simgpu.races(), simgpu.describe_races()
    assert moved and tokens == right


@pytest.mark.parametrize(
    ("use_async", "first", "second"),
    [
        (False, "self.write_index_storage[i, : len(group_write_indices)] = ", "index_copy_(0, write_index"),
        (True, "self._bulk_input_tensor[: self.static_inputs, : q_len + 1].zero_()", "self._bulk_input_tensor"),
    ],
)
def test_as_it_is_its_races_are_reported(right, use_async, first, second):
    """Which, as docs/simulator.md says, transformers 5.23 has."""
    tokens, races = run("eager", use_async, False, mend=False)
    assert tokens == right, "on a lucky GPU"
    assert {race.first.lane for race in races} == {"default"}, "one cause: what the default stream writes"
    assert any(first in str(race.first.site) and second in str(race.second.site) for race in races)


@pytest.mark.long
@pytest.mark.parametrize("race", verdicts.RACES)
def test_a_sleep_makes_its_races_happen(right, race, monkeypatch):
    """What the script does on a real GPU: with threads the window is as wide here."""
    monkeypatch.setattr(
        transformers_windows, "SLEEP_CYCLES", 300_000_000
    )  # 0.2 s, so that a busy machine's host is still inside
    runs = {}
    for name in ("mended", "as it is"):
        with simgpu.as_cuda("threads", on_race="collect"):
            try:
                runs[name] = verdicts.observe(race, mend=name == "mended")
            except RuntimeError as error:
                runs[name] = {"error": str(error)}
    found = verdicts.judge(race, runs, right)
    assert found["verdict"] == "confirmed", runs
    assert found["window"]["with the missing edges"]["open"].startswith("0 of "), found
    assert not found["window"]["as it is"]["open"].startswith("0 of "), found


OPEN, CLOSED = ([{"the second begins": 1.0, "the first ends": ms}] for ms in (2.0, 0.5))
RIGHT, WRONG = ({"tokens": {"r0": [token]}, "wrong copies": 0, "windows": OPEN} for token in (1, 2))


@pytest.mark.parametrize(
    ("mended", "as_it_is", "verdict"),
    [
        (RIGHT, WRONG, "confirmed"),
        (RIGHT, {"error": "fails: device-side assert"}, "confirmed"),
        (RIGHT, {**RIGHT, "wrong copies": 1}, "confirmed"),
        (RIGHT, RIGHT, "not seen, and the window was open"),
        (RIGHT, {**RIGHT, "windows": CLOSED}, "not seen, but the window was not open"),
        (RIGHT, {**RIGHT, "windows": []}, "not seen, but the window was not open"),
        (WRONG, WRONG, "unclear"),
        (WRONG, RIGHT, "unclear"),
    ],
)
def test_the_script_for_a_real_gpu_judges_by_both_runs(mended, as_it_is, verdict):
    runs = {"mended": mended, "as it is": as_it_is}
    assert verdicts.judge("3", runs, RIGHT["tokens"])["verdict"] == verdict


def test_it_says_in_how_many_cases_the_window_was_open():
    run = {**RIGHT, "windows": CLOSED + OPEN}
    assert verdicts.describe_windows(run) == {"open": "1 of 2", "ms": OPEN[0]}


def test_a_run_that_did_not_end_is_no_confirmation_by_itself():
    assert verdicts.judge("1", {}, RIGHT["tokens"])["verdict"] == "unclear"
