"""Chapter 7's recordings on the simulated GPU, and the sentences of its lesson that stand and fall with them."""

from dataclasses import replace

import pytest
import torch

from figures.ch07 import record as ch07
from figures.ch07.diagrams import carry_map
from tests.figures.recorded import assert_recorded_and_drawn
from tests.helpers import tiny_model
from toolkit.commands.decoding import Load
from toolkit.recordings import DATA, read_recording
from toolkit.timeline import Recording, steady
from toolkit.timeline.recording import Span

simulated_only = pytest.mark.skipif(
    torch.cuda.is_available(), reason="the simulated GPU is refused where there is CUDA"
)


@pytest.mark.long
@simulated_only
def test_chapter_7_is_recorded_and_drawn(tmp_path, monkeypatch):
    """On the simulated GPU: every row says so, the same again gives the same rows, every figure can be drawn."""
    monkeypatch.setattr(ch07, "LOADS", {"simulated": [("", 4)]})
    monkeypatch.setattr(ch07, "open_load", lambda *args, **kwargs: Load(tiny_model(), 4, 4, 8))
    monkeypatch.setattr(ch07, "OVERRUN_ROWS", 2)
    monkeypatch.setattr(ch07, "OVERRUN_TOKENS", 12)
    assert_recorded_and_drawn(ch07, tmp_path)


@simulated_only
def test_rows_that_were_dropped_are_counted():
    """Synchronous nothing is dropped; asynchronous at most one row for each request that ends with EOS."""
    load = replace(Load(tiny_model(), 6, 4, 8), new_tokens=12)
    often = ch07.run_to_eos(load, 8, asynchronous=True)
    waiting = ch07.run_to_eos(load, 8, asynchronous=False)
    assert 0 < often["dropped"] <= often["ended_by_eos"], often
    assert waiting["dropped"] == 0 and waiting["tokens"] == often["tokens"], (waiting, often)


def test_figures_are_taken_from_forward_to_forward():
    """Overlapping steps: 10 ms from forward to forward, 8 of them busy, 3 of host work besides the wait."""
    spans = []
    for step in range(6):
        start = step * 0.010
        spans += [
            Span("forward", "compute", start, start + 0.008, step),
            Span("prepare", "host", start - 0.007, start - 0.005, step),
            Span("wait", "host", start + 0.001, start + 0.003, step),
            Span("commit", "host", start + 0.009, start + 0.010, step),
        ]
    numbers = ch07.per_step(Recording(tuple(spans)), tokens_per_step=4)
    seen = [round(numbers[name], 3) for name in ("ms_per_step", "idle_share", "host_ms_per_step", "tokens_per_s")]
    assert seen == [10.0, 0.2, 3.0, 400.0], f"ms, idle, host ms, tokens/s should be [10, 0.2, 3, 400]; seen: {seen}"


def test_a_map_is_drawn_as_it_is():
    """One arrow for each token that is carried over; also a wrong map, or one that is too short, can be drawn."""
    for index, arrows in (([1, 0, -1], 2), ([5, -1, -1], 1), ([0], 1), ([], 0)):
        axes = carry_map(["a", "b"], ["b", "a", "c"], index).axes[0]
        assert sum(getattr(text, "arrow_patch", None) is not None for text in axes.texts) == arrows, index


@pytest.mark.parametrize("path", sorted(DATA.glob("*/ch07_engines.json")), ids=lambda path: path.parent.name)
def test_what_the_lesson_says_of_the_engines(path):
    """The idle share of one batch at a time is the ceiling, reached while the host is the quicker one."""
    rows = read_recording(path)["rows"]
    for one, half, ours, same in zip(rows[::4], rows[1::4], rows[2::4], rows[3::4], strict=True):
        engines = [row["engine"] for row in (one, half, ours, same)]
        assert engines == ["one batch at a time", "two half batches", "asynchronous", "asynchronous=False"]
        ceiling, gain = 1 / (1 - one["idle_share"]), ours["tokens_per_s"] / one["tokens_per_s"]
        assert gain < ceiling * 1.02, f"lesson 7: more than the ceiling of {ceiling:.2f}: {gain:.2f}, {ours}"
        assert ours["tokens_per_s"] > half["tokens_per_s"], f"lesson 7: two half batches are slower, {half}"
        assert ours["steps"] == one["steps"] == half["steps"] / 2, "lesson 7: half as many steps as two half batches"
        if one["clock"] == "simulated":  # on a GPU the last bits of a token's scores depend on the batch
            assert {row["wrong_share"] for row in (one, half, ours, same)} == {0}, "all tokens right"
            device_ms = (1 - one["idle_share"]) * one["ms_per_step"]
            quicker_host = one["host_ms_per_step"] < device_ms
            assert (gain > ceiling * 0.99) == quicker_host, f"lesson 7: reached while the host is quicker, {ours}"
            assert (ours["idle_share"] < 0.001) == quicker_host, f"lesson 7: no gap, or one with 128 requests, {ours}"
            assert quicker_host == (one["requests"] < 128)
            assert abs(same["ms_per_step"] / one["ms_per_step"] - 1) < 0.01, "lesson 7: to within a hundredth"
        else:
            assert same["host_ms_per_step"] > one["host_ms_per_step"], f"lesson 7: the map is work, {same}"
            assert same["ms_per_step"] > one["ms_per_step"], f"lesson 7: which nothing hides, {same}"


@pytest.mark.parametrize("path", sorted(DATA.glob("*/ch07_steps.json")), ids=lambda path: path.parent.name)
def test_the_picture_shows_no_gap(path):
    """What the chapter promises is what its first picture shows, also on a host that slows down now and then."""
    recording = read_recording(path)
    idle = steady(Recording.from_rows(recording["rows"], recording["device"])).idle_share()
    assert idle < 0.002, f"lesson 7: no gap in its first recorded picture; idle {idle:.2%}"


@pytest.mark.parametrize("path", sorted(DATA.glob("*/ch07_overrun.json")), ids=lambda path: path.parent.name)
def test_what_the_lesson_says_of_the_overrun(path):
    """A dropped row for each request that ends with EOS: a fifth of all for short answers, little for long ones."""
    rows = read_recording(path)["rows"]
    shares, gains = [], []
    for one, ours in zip(rows[::2], rows[1::2], strict=True):
        assert not one["asynchronous"] and ours["asynchronous"] and one["dropped"] == 0
        assert ours["dropped"] == ours["ended_by_eos"] and ours["sampled"] == ours["tokens"] + ours["dropped"]
        assert one["tokens"] == ours["tokens"], "the same answers in both orders"
        shares.append(ours["dropped"] / ours["sampled"])
        gains.append(ours["tokens_per_s"] / one["tokens_per_s"])
    if rows[0]["clock"] == "simulated":
        assert 0.18 < shares[0] < 0.22 and shares[-1] < 0.02, shares
        assert 1 < gains[0] < gains[1] < gains[2], f"lesson 7: most of the gain is lost with short answers, {gains}"
        assert gains[0] - 1 < (gains[2] - 1) / 2, gains
    else:
        assert gains[0] < 1 < min(gains[1:]), f"lesson 7: slower with short answers, {gains}"
