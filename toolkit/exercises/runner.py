"""Runs pytest in a process of its own and reports each test as data, so that a hang or a crash harms nobody.

Used with the spawn method by `check`, and with a forkserver that has torch loaded by `mutants`, where one process a
planted mistake must be cheap.
"""

import faulthandler
import gc
import multiprocessing
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path

# What every test process needs anyway. Loading starts no threads of OpenMP, which a fork would not survive.
PRELOAD = [
    "torch",
    "transformers",
    "transformers.models.llama.modeling_llama",
    "matplotlib.pyplot",
    "pytest",
    "hypothesis",
]


@dataclass(frozen=True)
class Order:
    """What to run and with whose code.

    Attributes:
        root: the repository.
        code, chapter, fill, overlay: as for `toolkit.course.use`.
        targets: files or node ids for pytest, relative to `root`.
        exercises: only tests of these exercises, in this order; "" stands for tests without one. None: all tests.
        first_failure: stop after one failing test.
        limit: seconds for the tests of one exercise; also for loading them.
    """

    root: Path
    code: str
    targets: tuple[str, ...]
    chapter: str | None = None
    fill: bool = False
    overlay: Mapping[tuple[str, str], str] = field(default_factory=dict)
    exercises: tuple[str, ...] | None = None
    first_failure: bool = False
    limit: int = 120


@dataclass(frozen=True)
class TestResult:
    """What became of one test.

    Attributes:
        test: node id. For what ends a whole run (tests that cannot be loaded, a crash) the test then running, or "".
        exercise: the id from its marker, or "".
        says: the first sentence of its docstring.
        outcome: "passed", "failed", "skipped", "hung", "crashed" or "not loaded".
        message: why it did not pass.
        where: the innermost line of the learner's files that was running, such as "chapters/.../x.py:41"; or "".
    """

    __test__ = False  # not a test class, whatever pytest makes of the name

    test: str
    exercise: str
    says: str
    outcome: str
    message: str = ""
    where: str = ""


def forkserver() -> BaseContext:
    """Processes forked from one that has loaded torch and pytest; where that cannot be had, fresh ones."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    return context


def run(order: Order, context: BaseContext | None = None) -> Iterator[TestResult]:
    """Run the order in a new process and give each result as it comes.

    The process sees no GPU: exercises are checked on the simulated one, which finds races whatever the numbers are, and
    which is refused beside a real one.
    """
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    context = context or multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.txt"
        process = context.Process(target=_child, args=(order, sender, log))  # type: ignore[attr-defined]
        process.start()
        sender.close()
        running, finished = TestResult("", "", "", "not loaded"), False
        try:
            while receiver.poll(order.limit + 60):
                kind, value = receiver.recv()
                if kind == "end":
                    finished = True
                    break
                if kind == "start":
                    running = value
                else:
                    yield value
        except EOFError:
            pass
        finally:
            if not finished:
                process.kill()
            process.join()
            receiver.close()
        if not finished:
            yield _ended_early(order, running, log.read_text(errors="replace"), process.exitcode)


def _ended_early(order: Order, running: TestResult, log: str, code: int | None) -> TestResult:
    lines = re.findall(r'File "([^"]+)", line (\d+)', log)
    places = [place_in("chapters", order.root, file, int(line)) for file, line in lines]
    place = next((place for place in places if place), "")
    if "Timeout (" in log or code is None:
        outcome, message = (
            "hung",
            f"did not finish within {order.limit} seconds; perhaps a loop without an end, or a lock taken twice",
        )
    else:
        outcome, message = "crashed", f"the test process ended with code {code}: " + "\n".join(log.splitlines()[-6:])
    return TestResult(running.test, running.exercise, running.says, outcome, message, place)


def place_in(folder: str, root: Path, file: str, line: int) -> str:
    """Such as "chapters/ch02_continuous_batching/scheduler.py:41"; "" for a file that is not in that folder."""
    path = Path(file)
    return f"{path.relative_to(root).as_posix()}:{line}" if path.is_relative_to(root / folder) else ""


def _child(order: Order, sender: Connection, log: Path) -> None:
    """The process's main: choose the code, send what pytest prints to a file, and run the tests."""
    with log.open("w") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
        faulthandler.enable(out)
        faulthandler.dump_traceback_later(order.limit, exit=True, file=out)
        import pytest

        from toolkit import course
        from toolkit.exercises.reporter import Reporter

        # pytest collects garbage again and again; what is loaded by now will never be any.
        gc.freeze()
        course.use(order.code, order.chapter, order.fill, root=order.root, overlay=order.overlay)
        os.chdir(order.root)
        reporter = Reporter(order, sender, out)
        flags = ["-q", "--tb=no", "-p", "no:cacheprovider", "-p", "no:faulthandler", f"--rootdir={order.root}"]
        pytest.main([*flags, *(["-x"] if order.first_failure else []), *order.targets], plugins=[reporter])
        faulthandler.cancel_dump_traceback_later()
        sender.send(("end", None))
        sender.close()
