"""The soak test, briefly; and that it finds what it is there to find."""

import functools
import random
import re
from collections import Counter

import pytest

from ch02_continuous_batching import RequestOutput
from tests.simulated import needs_simulator
from toolkit.commands.ledger import Ledger, LedgerError
from toolkit.commands.soak.__main__ import soak
from toolkit.commands.soak.answers import Answers
from toolkit.commands.soak.stage import Soak, Stage, stages

pytestmark = needs_simulator


@pytest.fixture(scope="module")
def answers() -> Answers:
    return Answers()


def test_a_short_soak_is_clean_and_meets_everything():
    """300 steps under all four stages: every kind of end, refused names, faults and preemptions have occurred."""
    counts = soak(300, seed=3)
    missing = [
        what for what in ("length", "eos", "stop", "cancelled", "refused", "faults", "preempted") if not counts[what]
    ]
    assert not missing, f"in a whole soak there was none of {missing}: {dict(counts)}"


def test_the_same_seed_gives_the_same_run(answers: Answers):
    """A failure can be repeated: the seed decides everything that happens."""
    seen = []
    for _ in range(2):
        counts = Counter[str]()
        for _ in Soak(stages(5)[0], answers, random.Random(5), counts).run(60):
            pass
        seen.append(counts)
    assert seen[0] == seen[1]


def fault_found(answers: Answers, monkeypatch: pytest.MonkeyPatch, method: str, planted) -> str:
    """Run 400 steps with a method of the engine, such as "book.commit_tokens", replaced; what the soak says."""
    run = Soak(Stage("eager", {}), answers, random.Random(1), Counter())
    *parts, name = method.split(".")
    target = functools.reduce(getattr, parts, run.engine)
    monkeypatch.setattr(target, name, planted(run.engine, getattr(target, name)))
    with pytest.raises(LedgerError) as found:
        for _ in run.run(400):
            pass
    return str(found.value)


def test_a_lost_block_is_found_mutant(answers: Answers, monkeypatch: pytest.MonkeyPatch):
    """A block manager that keeps the last block of a request that had five."""

    def planted(engine, give_back):
        def run(blocks) -> None:
            give_back(blocks[:4] if len(blocks) == 5 else blocks)

        return run

    monkeypatch.setattr("toolkit.commands.soak.stage.IDLE_EVERY", 10)
    said = fault_found(answers, monkeypatch, "scheduler.blocks.give_back", planted)
    assert re.search(r"it has 24 blocks, and \d+ are free;", said)


def test_a_doubled_token_is_found_mutant(answers: Answers, monkeypatch: pytest.MonkeyPatch):
    """A cancelled, preempted or ended request's row in flight is not dropped."""

    def planted(engine, commit_tokens):
        def run(batch, token_ids):
            rows = batch.sampling_rows
            taken = rows.columns.limit[rows.seats] > 0
            rows.epochs[taken] = rows.columns.epoch[rows.seats][taken]
            return commit_tokens(batch, token_ids)

        return run

    fault_found(answers, monkeypatch, "book.commit_tokens", planted)


def test_a_lost_end_is_found_mutant(answers: Answers, monkeypatch: pytest.MonkeyPatch):
    """A cancelled request never hears of it."""

    def planted(engine, cancel):
        def run(name) -> bool:
            done = cancel(name)
            engine.book.outputs.clear()
            return done

        return run

    assert re.search("terminal output|name is in use", fault_found(answers, monkeypatch, "cancel", planted))


@pytest.mark.long
def test_a_leak_is_found_mutant(answers: Answers, monkeypatch: pytest.MonkeyPatch):
    """Something small is kept for each request forever."""
    kept = []

    def planted(engine, add_request):
        def run(*arguments):
            kept.append([object() for _ in range(20)])
            return add_request(*arguments)

        return run

    monkeypatch.setattr("toolkit.commands.soak.stage.IDLE_EVERY", 25)
    assert "leak" in fault_found(answers, monkeypatch, "add_request", planted)


# --- the ledger by itself ---


def output(*tokens: int, reason: str | None = None, whole: tuple[int, ...] = ()) -> RequestOutput:
    from ch02_continuous_batching import FinishReason

    return RequestOutput("a", tokens, FinishReason(reason) if reason else None, whole)


@pytest.mark.parametrize(
    ("outputs", "says"),
    [
        ([output(5), output(6), output(7, reason="length", whole=(5, 6, 7)), output(8)], "terminal"),
        ([output(5), output(7)], "wrong"),
        ([output(5), output(6, reason="length", whole=(5, 6))], "ends"),
        ([output(5), output(6), output(7, reason="length", whole=(5, 7))], "output_ids"),
        ([output(5), output(6), output(7), output(8)], "wrong, lost or doubled"),
    ],
    ids=["a second end", "a wrong token", "too few", "another result", "too many"],
)
def test_the_ledger_sees_it(outputs: list[RequestOutput], says: str):
    """Each thing that an engine may get wrong towards a caller is an error that says so."""
    ledger = Ledger()
    ledger.add("a", [5, 6, 7])
    with pytest.raises(LedgerError, match=says):
        ledger.take(outputs)


def test_a_name_may_be_taken_before_the_last_end_is_out():
    """Outputs go to the oldest open request of a name."""
    ledger = Ledger()
    ledger.add("a", [5, 6])
    ledger.add("a", [8])
    ledger.take([output(5), output(reason="cancelled", whole=(5,)), output(8, reason="length", whole=(8,))])
    assert ledger.ended == {"cancelled": 1, "length": 1} and not ledger.open
