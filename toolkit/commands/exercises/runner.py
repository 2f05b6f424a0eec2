"""Runs pytest in a process of its own and reports each test as data, so that a hang or a crash ends that process alone.

Used with the spawn method by `check`, and with a forkserver that has torch loaded by `mutants`.
"""

import faulthandler
import gc
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from toolkit.choice import MINE
from toolkit.commands.exercises.order import Order, TestResult, read_end
from toolkit.commands.exercises.patience import TICK, Patience
from toolkit.commands.exercises.places import learners_place, places_in

ENDLESS_LOOP = "it did not end: it computed all the time, so perhaps a loop without an end"
ENDLESS_WAIT = (
    "it did not end: it waited and hardly computed; perhaps a lock taken twice, or a wait for what never comes"
)
ENDED = ("hung", "crashed")  # outcomes that end the test process
MOST_ENDED = 3  # an exercise that has hung so often would most likely hang in all of its tests: the others are left out


def run(order: Order, context: BaseContext | None = None) -> Iterator[TestResult]:
    """Run the order in a new process and give each result as it comes.

    The process sees no GPU: exercises are checked on the simulated one, which finds races whatever the numbers are, and
    which is refused beside a real one.
    """
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    context = context or multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as folder:
        printed, stacks = Path(folder) / "printed.txt", Path(folder) / "stacks.txt"
        printed.touch()
        stacks.touch()
        process = context.Process(target=_child, args=(order, sender, printed, stacks))  # type: ignore[attr-defined]
        process.start()
        sender.close()
        try:
            yield from _receive(order, receiver, process, printed, stacks)
        finally:
            process.kill()  # after its end too: threads that a test has left behind may never end by themselves
            process.join()
            receiver.close()


def _receive(
    order: Order, receiver: Connection, process: BaseProcess, printed: Path, stacks: Path
) -> Iterator[TestResult]:
    """The results that the process sends, and one more where it ends early or is given up."""
    patience, limit = Patience(process.pid or 0), 4 * order.limit
    running, printed_from = TestResult("", "", "", "not loaded"), 0
    while patience.waited < limit:
        if not receiver.poll(TICK):
            patience.tick()
            continue
        try:
            kind, value = receiver.recv()
        except EOFError:
            process.join()
            outcome, message = "crashed", f"the test process ended with code {process.exitcode}"
            computed = True
            break
        patience.restart()
        if kind == "end":
            return
        if kind == "start":
            (running, printed_from), limit = value, order.limit
        else:
            yield value
    else:
        outcome, computed = "hung", patience.computes()
        message = ENDLESS_LOOP if computed else ENDLESS_WAIT
        _stop(process)
    dump = read_end(stacks)
    where = learners_place(places_in(MINE, order.root, dump, computed), running.exercise, order.root)
    if dump.startswith("Fatal"):
        message += f": {dump.splitlines()[0]}"
    elif not where and (tests := places_in("tests", order.root, dump, computed)):
        message += f"; it was at {tests[0]}, in the test itself"
    yield replace(running, outcome=outcome, message=message, where=where, printed=read_end(printed, printed_from))


def _stop(process: BaseProcess) -> None:
    """Make a process that is stuck write what each of its threads is doing, and end it."""
    if hasattr(signal, "SIGUSR1"):  # not on Windows, where the learner's line stays unknown
        with suppress(ProcessLookupError):
            os.kill(process.pid or 0, signal.SIGUSR1)
        process.join(timeout=20)
    process.kill()
    process.join()


def _child(order: Order, sender: Connection, printed: Path, stacks: Path) -> None:
    """The process's main: choose the code, send what is printed to a file, and run the tests."""
    with printed.open("wb") as out, stacks.open("w") as faults:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(encoding="utf-8", errors="replace", line_buffering=True)  # type: ignore[union-attr]
        faulthandler.enable(faults)
        if hasattr(signal, "SIGUSR1"):
            # Needs no turn of the interpreter, which a loop in C never gives; afterwards the signal ends the process.
            faulthandler.register(signal.SIGUSR1, faults, all_threads=True, chain=True)
        import pytest

        from toolkit import course
        from toolkit.commands.exercises.reporter import Reporter

        # pytest collects garbage again and again; what is loaded by now will never be any.
        gc.freeze()
        course.use(order.code, order.chapter, order.fill, root=order.root, overlay=order.overlay)
        os.chdir(order.root)
        # Not captured by pytest (-s): what a test printed is to be had even where it never ends. Without the plugins
        # that happen to be installed: a check is the same everywhere, and they take longer to load than most tests do.
        flags = ["-s", "-q", "--tb=no", "--disable-plugin-autoload", f"--rootdir={order.root}"]
        flags += ["-p", "no:cacheprovider", "-p", "no:faulthandler"]
        stop = ["-x"] if order.first_failure else []
        pytest.main([*flags, *stop, *order.targets], plugins=[Reporter(order, sender, printed)])
        sender.send(("end", None))
        sender.close()
