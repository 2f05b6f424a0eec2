"""The measurements of chapters 1 and 2, made small, and the figures drawn from them."""

import pytest
import torch

from figures import FIGURES, serving
from figures.ch01 import record as ch01
from figures.ch02 import record as ch02
from figures.draw import draw_all
from figures.serving import Size, workloads
from toolkit.recordings import write_recording

SMALL = Size("tiny", requests=16, rows=4, new_tokens=4, prompt_len=(2, 6), long_prompt=64)


@pytest.fixture(scope="module")
def recordings():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving, "SIZES", {"cpu": SMALL})
        for chapter in (ch01, ch02):
            patch.setattr(chapter, "REPEATS", 1)
        return {**ch01.record(torch.device("cpu")), **ch02.record(torch.device("cpu"))}


def test_every_figure_is_drawn(recordings, tmp_path):
    """The recordings can be written, and each figure of the two chapters is drawn from them."""
    for name, rows in recordings.items():
        write_recording(name, rows, command="test", folder=tmp_path / "data")
    report = draw_all(tmp_path / "data", tmp_path / "figures")
    drawn = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert drawn == {name for name in FIGURES if name.startswith(("ch01", "ch02"))}, report


def test_continuous_batching_saves_steps_only_where_lengths_differ(recordings):
    """Equal lengths: as many steps as with static batches; unequal ones: fewer."""
    steps = {(row["lengths"], row["batching"]): row["steps"] for row in recordings["ch02_spread"]}
    assert steps["all equal", "static"] == steps["all equal", "continuous"]
    for lengths in ("1 to twice the average", "one in eight long"):
        assert steps[lengths, "continuous"] < steps[lengths, "static"], steps


def test_chunks_take_more_steps(recordings):
    """A smaller budget cuts the long prompt into more chunks; prefill first makes the others wait for all of them."""
    rows = [row for row in recordings["ch02_budget"] if row["policy"] == "prefill_first"]
    steps = [row["steps"] for row in sorted(rows, key=lambda row: row["token_budget"])]
    assert steps == sorted(steps, reverse=True) and steps[0] > steps[-1], steps


def test_the_drawn_batch_is_what_the_engine_counts(recordings):
    """The picture of one batch, which is computed from lengths, agrees with the counters of the engine."""
    from ch01_naive_loop import NaiveEngine
    from tests.helpers import shared_reference

    rows = recordings["ch01_batch"]
    engine = NaiveEngine(shared_reference(), batch_size=len(rows))
    engine.generate([[5] * row["prompt"] for row in rows], [row["wanted"] + 1 for row in rows])
    assert engine.positions_useful == sum(row["prompt"] + row["wanted"] for row in rows)
    wasted = sum(row["padding"] + row["thrown_away"] for row in rows)
    assert engine.positions_computed == engine.positions_useful + wasted


def test_workloads_ask_for_the_same_on_average():
    """Equal lengths and one in eight long: exactly the same total, the same prompts."""
    made = workloads(SMALL, 50)
    total = {name: sum(item.max_tokens for item in items) for name, items in made.items()}
    assert total["all equal"] == total["one in eight long"] == SMALL.requests * SMALL.new_tokens
    prompts = [[item.prompt_ids for item in items] for items in made.values()]
    assert prompts[0] == prompts[1] == prompts[2]
