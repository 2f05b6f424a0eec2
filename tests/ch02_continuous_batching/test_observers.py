"""Observers are told in the order given, and what they open nests: the timeline's span lies within all others'."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ch02_continuous_batching import Observer, Observers, SamplingParams
from ch02_continuous_batching.build import build
from tests.helpers import swapped, tiny_model
from toolkit.timeline import NO_TIMELINE


class Notes(Observer):
    """Writes down what it is told, into a list that several share."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self.name, self.notes = name, notes

    @contextmanager
    def host(self, phase: str, *, step: int) -> Iterator[None]:
        self.notes.append(f"{self.name}: {phase} {step}")
        try:
            yield
        finally:
            self.notes.append(f"{self.name}: end of {phase} {step}")

    @contextmanager
    def device(self, name: str, *, lane: str, step: int) -> Iterator[None]:
        self.notes.append(f"{self.name}: {name} {step} on {lane}")
        yield
        self.notes.append(f"{self.name}: end of {name} {step} on {lane}")

    def work(self, phase, *, rows):
        self.notes.append(f"{self.name}: {phase} of {rows} rows")

    def added(self, request):
        self.notes.append(f"{self.name}: added {request.request_id}")

    def committed(self, batch):
        tokens = [row.request.output_ids[-1] for row in batch.sampling_rows]
        self.notes.append(f"{self.name}: committed {batch.step}, {len(tokens)} tokens")

    def stepped(self, scheduler, outputs, *, idle):
        self.notes.append(f"{self.name}: stepped, {len(outputs)} outputs, {idle=}")


class NotedTimeline(Notes):
    """A timeline in so far as the engine uses one."""

    @contextmanager
    def device(self, name: str, *, lane: str = "compute", step: int) -> Iterator[None]:
        with super().device(name, lane=lane, step=step):
            yield


def test_one_after_the_other():
    notes: list[str] = []
    observers = Observers(NO_TIMELINE, Notes("first", notes), Notes("second", notes))
    observers.work("prepare", rows=3)
    assert notes == ["first: prepare of 3 rows", "second: prepare of 3 rows"]


def test_spans_nest():
    """Opened in the order given and closed the other way round; the timeline's own is the innermost."""
    notes: list[str] = []
    observers = Observers(NotedTimeline("timeline", notes), Notes("first", notes), Observer(), Notes("second", notes))
    with observers.host("prepare", step=4):
        notes.append("the work")
    names = ["first", "second", "timeline"]
    begin = [f"{name}: prepare 4" for name in names]
    end = [f"{name}: end of prepare 4" for name in reversed(names)]
    assert notes == [*begin, "the work", *end]
    notes.clear()
    with observers.device("forward", step=4):
        notes.append("the work")
    begin = [f"{name}: forward 4 on compute" for name in names]
    end = [f"{name}: end of forward 4 on compute" for name in reversed(names)]
    assert notes == [*begin, "the work", *end]


def test_spans_are_closed_when_the_work_raises():
    """All of them, in the same order, and the error goes on."""
    notes: list[str] = []
    observers = Observers(NO_TIMELINE, Notes("first", notes), Notes("second", notes))
    with pytest.raises(ZeroDivisionError), observers.host("commit", step=0):
        raise ZeroDivisionError
    assert notes[2:] == ["second: end of commit 0", "first: end of commit 0"]


def test_a_run_from_its_first_request_to_its_last_output():
    """What an observer is told of an engine: two steps of one request, and one step with nothing to do."""
    notes: list[str] = []

    def observed(timeline):
        return Observers(timeline, Notes("", notes))

    engine = swapped(build, Observers=observed)(tiny_model(), num_blocks=20)
    engine.add_request("a", [5, 6, 7], SamplingParams(max_tokens=2))
    for _ in range(3):
        engine.step()

    def step(number: int, idle: bool) -> list[str]:
        return [
            f"prepare {number}",
            "prepare of 1 rows",
            f"end of prepare {number}",
            f"launch {number}",
            f"copy in {number} on h2d",
            f"end of copy in {number} on h2d",
            f"forward {number} on compute",
            f"end of forward {number} on compute",
            f"end of launch {number}",
            f"wait {number}",
            f"end of wait {number}",
            f"commit {number}",
            "commit of 1 rows",
            f"committed {number}, 1 tokens",
            f"end of commit {number}",
            f"stepped, 1 outputs, {idle=}",
        ]

    nothing = ["prepare 2", "end of prepare 2", "stepped, 0 outputs, idle=True"]
    assert [note.removeprefix(": ") for note in notes] == ["added a", *step(0, False), *step(1, True), *nothing]
