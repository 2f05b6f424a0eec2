"""A small pytest plugin that chooses tests by exercise and sends each result to the parent process."""

import re
import sys
import traceback
from collections.abc import Generator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from toolkit.choice import MINE
from toolkit.commands.exercises.order import Order, TestResult, read_end
from toolkit.commands.exercises.places import learners_place, place_in
from toolkit.commands.exercises.timelines import FOLDER, write_timeline


class Reporter:
    """Lives in the test process; `runner.run` receives what it sends."""

    def __init__(self, order: Order, sender: Connection, printed: Path) -> None:
        self.order = order
        self.sender = sender
        self.printed = printed
        self.result: TestResult | None = None
        self.drawn: set[str] = set()  # exercises

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        wanted, done = self.order.exercises, self.order.done
        items[:] = [item for item in items if item.nodeid not in done and item.nodeid.partition("[")[0] not in done]
        if wanted is not None:
            items[:] = [item for item in items if exercise_of(item) in wanted and not left_out(item)]
            items.sort(key=lambda item: wanted.index(exercise_of(item)))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self.result = TestResult(item.nodeid, exercise_of(item), sentence(item), "passed")
        sys.stdout.flush()
        printed_from = self.printed.stat().st_size
        self.sender.send(("start", (self.result, printed_from)))
        outcome = yield
        if self.result.outcome == "failed":
            sys.stdout.flush()
            self.result = replace(self.result, printed=read_end(self.printed, printed_from))
        self.sender.send(("done", self.result))
        return outcome

    def pytest_report_teststatus(self) -> tuple[str, str, str]:
        """pytest's own dots and letters would lie among what the learner's code prints."""
        return "", "", ""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self.result = TestResult(item.nodeid, exercise_of(item), sentence(item), "skipped", reason)
        elif report.failed and call.excinfo is not None and self.result and self.result.outcome == "passed":
            message, where = self.explain(call.excinfo.value)
            self.result = TestResult(item.nodeid, exercise_of(item), sentence(item), "failed", message, where)
            if self.order.timelines:
                self.result = replace(self.result, timeline=self.timeline(item, call.excinfo.value, message))
        return report

    def pytest_exception_interact(self, node: pytest.Collector | pytest.Item, call: pytest.CallInfo) -> None:
        """A test file that cannot be loaded, most often because a learner's file cannot."""
        if isinstance(node, pytest.Collector) and call.excinfo is not None:
            error = call.excinfo.value
            message, where = self.explain(error.__cause__ or error)
            self.sender.send(("done", TestResult(node.nodeid, "", "", "not loaded", message, where)))

    def explain(self, error: BaseException) -> tuple[str, str]:
        """(what the error says, the line of the learner's files that it passed through, see `learners_place`)."""
        if isinstance(error, BaseExceptionGroup):  # hypothesis found several failures: the first will do
            return self.explain(error.exceptions[0])
        message = "\n".join([str(error), *getattr(error, "__notes__", [])]).strip()
        exercise = self.result.exercise if self.result else ""
        where = learners_place(self.places(MINE, error), exercise, self.order.root)
        if not isinstance(error, AssertionError | pytest.fail.Exception):
            message = f"{type(error).__name__}: {message}"
            is_race = hasattr(error, "race")  # its report names the lines that matter
            if not where and not is_race:
                message += self.elsewhere(error)
        return message, where

    def timeline(self, item: pytest.Item, error: BaseException, message: str) -> str:
        """Draw the test's run, if that shows what is wrong: once for each exercise, the first time."""
        exercise = exercise_of(item)
        if exercise in self.drawn:
            return ""
        folder = self.order.root / FOLDER / (exercise or "whole_chapter")
        about_overlap = item.get_closest_marker("overlap") is not None
        line = write_timeline(folder, error, message, sentence(item), about_overlap)
        if line:
            self.drawn.add(exercise)
        return line

    def elsewhere(self, error: BaseException) -> str:
        """Where an exception came from that passed through no line of the learner's: one more line for its message."""
        test = next(iter(self.places("tests", error)), "")
        if not test:
            return ""
        for folder, what in (("solutions", "the reference"), (MINE, "a file that you have not changed")):
            for place in self.places(folder, error)[:1]:
                return f"\nraised at {place}, in {what}, which the test called ({test})"
        return f"\nraised by the test itself ({test}): perhaps your code returned something else than it should"

    def places(self, folder: str, error: BaseException) -> list[str]:
        """The lines of a folder's files that an exception passed through, the innermost first."""
        frames = reversed(traceback.extract_tb(error.__traceback__))
        places = (place_in(folder, self.order.root, frame.filename, frame.lineno or 0) for frame in frames)
        return [place for place in places if place]


def exercise_of(item: pytest.Item) -> str:
    """The exercise that a test is marked with; "" without a mark."""
    marker = item.get_closest_marker("exercise")
    return marker.args[0] if marker else ""


def left_out(item: pytest.Item) -> bool:
    """Whether a check leaves a test to `make test-long`: a sweep, or a slow one that is of no exercise."""
    return bool(item.get_closest_marker("long") or (item.get_closest_marker("slow") and exercise_of(item) == ""))


def sentence(item: pytest.Item) -> str:
    """What a test checks: the first sentence of its docstring, or its name in words."""
    text = getattr(getattr(item, "function", None), "__doc__", None) or item.name.removeprefix("test_").replace(
        "_", " "
    )
    return first_sentence(text)


def first_sentence(text: str) -> str:
    """Of a docstring, without its full stop."""
    return re.split(r"\.\s", " ".join(text.split()) + " ")[0].rstrip(". ")
