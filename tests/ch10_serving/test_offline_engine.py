"""An engine for offline rows, without Ray: answers in order, rows that fail alone, several calls at a time."""

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ch08_full_engine import Server
from ch09_persistent_batch import PersistentEngine
from ch10_serving.offline_engine import OfflineEngine
from ch10_serving.offline_job import Recipe
from toolkit.commands.ledger import leftovers
from toolkit.errors import UserError
from toolkit.models import load_model

ROWS = [json.dumps({"prompt": f"row {i}", "id": f"id{i}"}).encode() + b"\n" for i in range(12)]


def make() -> tuple[Any, Any]:
    loaded = load_model("tiny")
    limits = {"max_rows": 4, "num_blocks": 64, "max_length": 64, "stream_text": False}
    return PersistentEngine(loaded.model, loaded.tokenizer, **limits), loaded.tokenizer


@pytest.fixture(scope="module")
def engine() -> Iterator[OfflineEngine]:
    from toolkit import simgpu  # not above: where there is a GPU, this file is collected, and the simulated one refused

    simgpu.reset("eager")
    engine = OfflineEngine(make, "rows.jsonl", Recipe("tiny", 6), places=12)
    yield engine
    engine.watchdog.close()
    engine.server.close()


def decoded(answers: list[bytes]) -> list[Any]:
    assert not any(b"\n" in answer for answer in answers)
    return [json.loads(answer) for answer in answers]


def test_answers_are_in_order_and_have_their_ids(engine: OfflineEngine):
    """Each is the answer that its row gets alone."""
    together = decoded(engine.answer(range(1, 13), ROWS))
    assert [(answer["line"], answer["id"]) for answer in together] == [(i + 1, f"id{i}") for i in range(12)]
    assert {(answer["finish_reason"], answer["tokens"]) for answer in together} == {("length", 6)}
    alone = [decoded(engine.answer([i + 1], [row]))[0] for i, row in enumerate(ROWS)]
    assert alone == together and len({answer["text"] for answer in together}) > 6


def test_several_calls_at_a_time(engine: OfflineEngine):
    """Columns in, columns out, as Ray Data calls it; what belongs together stays together."""
    parts = [{"line": [line], "text": [ROWS[line - 1]]} for line in range(1, 13)]
    with ThreadPoolExecutor(12) as pool:
        answers = [json.loads(columns["answer"][0]) for columns in pool.map(engine, parts)]
    assert answers == decoded(engine.answer(range(1, 13), ROWS))


@pytest.mark.parametrize(
    "text, said",
    [
        (b"{", r"rows.jsonl:7: not JSON \(Expecting property name"),
        (b'{"text": "x"}', r'rows.jsonl:7: no "prompt" in it'),
        (b'{"prompt": "\xff"}', r"rows.jsonl:7: not UTF-8 \(byte 13"),
        (b'{"prompt": 5}', 'rows.jsonl:7: "prompt" is int'),
        (json.dumps({"prompt": "x" * 70}).encode(), "rows.jsonl:7: .* exceed"),
    ],
    ids=["no JSON", "no prompt", "no UTF-8", "no text", "too long"],
)
def test_a_row_that_cannot_be_answered_fails_alone(engine: OfflineEngine, text: bytes, said: str):
    first, bad, last = decoded(engine.answer([6, 7, 8], [ROWS[0], text, ROWS[1]]))
    assert bad["line"] == 7 and re.match(said, bad["error"]), bad
    assert "text" not in bad and "text" in first and "text" in last


def test_an_error_of_the_engine_is_the_rows_own(engine: OfflineEngine, monkeypatch: pytest.MonkeyPatch):
    """A request that was cancelled, or has failed, is no answer."""
    submit = Server.submit

    def cancelled(self: Any, *arguments: Any, **named: Any) -> str:
        name = submit(self, *arguments, **named)
        self.cancel(name)
        return name

    monkeypatch.setattr(Server, "submit", cancelled)
    (answer,) = decoded(engine.answer([3], [ROWS[0]]))
    assert answer.get("error", "").startswith("rows.jsonl:3: "), answer


def test_nothing_is_left_inside(engine: OfflineEngine):
    engine.answer(range(1, 13), ROWS)
    end = time.monotonic() + 30
    while engine.server.engine.has_work and time.monotonic() < end:  # a step that over-runs
        time.sleep(0.01)
    assert not leftovers(engine.server.engine)


def test_a_model_without_a_tokenizer():
    with pytest.raises(UserError, match="has no tokenizer"):
        OfflineEngine(lambda: (make()[0], None), "rows.jsonl", Recipe("tiny", 6), 4)
