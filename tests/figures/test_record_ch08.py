"""Chapter 8's measurements, and what its lesson says of the committed recordings."""

import pytest
import torch

from figures.ch08 import record as ch08
from tests.figures.recorded import assert_recorded_and_drawn
from tests.helpers import tiny_model
from tests.simulated import needs_simulator
from toolkit.commands.bench.floor import skeleton, step_bytes
from toolkit.commands.decoding import Load
from toolkit.recordings import DATA, read_recording


@pytest.mark.long
@needs_simulator
def test_chapter_8_is_recorded_and_drawn(tmp_path, monkeypatch):
    """On the simulated GPU: every row says so, the same again gives the same rows, every figure can be drawn."""
    monkeypatch.setattr(ch08, "open_load", lambda requests, new_tokens: Load(tiny_model(), 4, 4, 8))
    monkeypatch.setattr(ch08, "COMMON_TOKENS", (0, 32))
    assert_recorded_and_drawn(ch08, tmp_path)


def test_the_load_has_room_for_the_longest_request(monkeypatch):
    """On a GPU a load's model takes no longer requests than the load says."""
    asked = []
    monkeypatch.setattr(ch08, "open_load", lambda requests, new_tokens: asked.append(new_tokens))
    with pytest.raises(AttributeError):  # from the load that there is not
        ch08.record(torch.device("cpu"))
    assert asked[0] >= max(ch08.COMMON_TOKENS) + ch08.OWN_TOKENS + ch08.NEW_TOKENS


@pytest.mark.parametrize("path", sorted(DATA.glob("*/ch08_prefix.json")), ids=lambda path: path.parent.name)
def test_what_the_lesson_says_of_shared_prefixes(path):
    """The first request gains nothing; the others the more, the longer the common beginning is."""
    rows = read_recording(path)["rows"]
    gains = []
    for plain, sharing in zip(rows[::2], rows[1::2], strict=True):
        assert not plain["prefix_sharing"] and sharing["prefix_sharing"] and plain["shared_tokens"] == 0
        assert (sharing["shared_tokens"] > 0) == (sharing["common_tokens"] > 0)
        assert sharing["steps"] <= plain["steps"]
        gains.append(plain["last_of_all_ms"] / sharing["last_of_all_ms"])
        if plain["clock"] == "simulated":
            assert sharing["first_of_all_ms"] == plain["first_of_all_ms"], "lesson 8: somebody has to compute it"
    assert gains[0] < gains[1] < gains[2], f"lesson 8: the longer, the more; {gains}"


def test_what_the_lesson_says_of_many_rows_beside_vllm():
    """A step with twice the rows takes nearly twice as long, and faster memory brings little."""
    found = {
        (card, row["engine"], row["batch"]): row
        for card in ("h100", "h200")
        for row in read_recording(DATA / card / "peers.json")["rows"]
        if (row["model"], row["beside_vllm"], row["mode"]) == ("8b", True, "async") and row["batch"] > 32
    }
    smaller, larger, on_h100 = found["h200", "ours", 256], found["h200", "ours", 512], found["h100", "ours", 256]
    assert f"{larger['ms_per_step'] / smaller['ms_per_step']:.1f}" == "1.8", "lesson 8: times as long"
    assert larger["tokens_per_s"] / smaller["tokens_per_s"] == pytest.approx(1 + 1 / 8, abs=0.01), "lesson 8: an eighth"
    floors = [f"{row['floor_ms_per_step']:.1f}" for row in (smaller, larger, on_h100)]
    assert floors == ["5.0", "6.5", "7.1"], "lesson 8: ms of reading"
    weights = step_bytes(skeleton("8b"), rows=0, context=0) / 2  # in bf16; the embedding is not among them
    assert f"{weights / 1e9:.1f}" == "7.5", "lesson 8: billion weights"
    assert f"{2 * weights * 512 / 1e12:.1f} {2 * weights * 512 / 989e9:.1f}" == "7.7 7.8", "lesson 8: TFLOP, ms"
    assert f"{on_h100['ms_per_step'] - smaller['ms_per_step']:.1f}" == "0.8", "lesson 8: ms shorter"
    for (card, engine, batch), row in found.items():
        if engine == "ours":
            other = found[card, "vllm", batch]
            assert row["steps"] - row["new_tokens"] + 1 == 19, f"lesson 8: steps with prompts, {row}"
            assert "max_num_batched_tokens=16384" in other["options"]
            assert row["ttft_ms"] < other["ttft_ms"] and row["ttft_p99_ms"] > other["ttft_p99_ms"], f"lesson 8: {row}"
            assert row["itl_p99_ms"] > other["itl_p99_ms"], f"lesson 8: longer gaps, {row}"


def test_what_the_lesson_says_of_the_published_load():
    """Of a host that is ready soon there is little to hide, and all of it is hidden. Both runs are of one call."""
    rows = read_recording(DATA / "h100" / "peers.json")["rows"]
    ours = [row for row in rows if row["engine"] == "ours" and row["compiled"]]
    runs = {row["mode"]: row for row in ours if row["workload"] == "article"}
    assert (1 - runs["sync"]["run_active"]) * runs["sync"]["ms_per_step"] < 1, "lesson 8: less than a millisecond"
    assert 1 - runs["async"]["run_active"] < 0.005, "lesson 8: no gap"
    gain, promised = runs["sync"]["seconds"] / runs["async"]["seconds"], 1 / runs["sync"]["run_active"]
    assert gain == pytest.approx(promised, rel=0.02), "lesson 8: what there is to gain"
    assert runs["sync"].get("commit") == runs["async"].get("commit")
    assert runs["sync"].get("command") == runs["async"].get("command")


@pytest.mark.parametrize("path", sorted(DATA.glob("*/ch08_phases.json")), ids=lambda path: path.parent.name)
def test_what_the_lesson_says_of_the_phases(path):
    """Two batches are prepared before the first commit; after the last prepare there are two commits."""
    spans = [row for row in read_recording(path)["rows"] if row["name"] in ("prepare", "commit")]
    order = [row["name"] for row in sorted(spans, key=lambda row: row["start_ms"])]
    assert order[:3] == ["prepare", "prepare", "commit"], f"lesson 8: cold start, {order}"
    assert order[-2:] == ["commit", "commit"] or order[-3:] == ["commit", "prepare", "commit"], f"drain, {order}"
