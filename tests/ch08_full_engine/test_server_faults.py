"""What callers may do to a server, and what must not happen to the others."""

import asyncio
import subprocess
import sys
import threading

import pytest

from ch02_continuous_batching import FinishReason
from tests.ch08_full_engine.full_runs import params
from tests.ch08_full_engine.test_server import LONG, Caller, Slow, serving
from tests.simulated import PROMPTS, expected, needs_simulator
from toolkit.course import ROOT
from toolkit.errors import UserError

pytestmark = needs_simulator


class Faulty(Caller):
    """A callback that raises at its n-th output."""

    def __init__(self, error: BaseException, at: int = 1) -> None:
        super().__init__()
        self.error, self.at = error, at

    def __call__(self, output) -> None:
        super().__call__(output)
        if len(self.outputs) == self.at:
            raise self.error


ERRORS = [SystemExit(), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit(), ValueError("no")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("at", [1, 8], ids=["first", "last"])
def test_whatever_a_callback_raises_is_its_own_affair(error: BaseException, at: int):
    """Two callbacks raise, at the first output or the last: the others get their tokens, and the server lives on."""
    faulty, callers = [Faulty(error, at), Faulty(error, at)], [Caller(), Caller()]
    with serving() as server:
        for i, caller in enumerate([*faulty, *callers]):
            server.submit(PROMPTS[i], params(), caller)
        assert [caller.result() for caller in callers] == expected()[2:4]
        server.submit(PROMPTS[4], params(), late := Caller())
        assert late.result() == expected()[4]
    assert all(len(each.outputs) == at for each in faulty), "after it raised, a callback gets no more"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_all_callers_are_told_when_the_engine_dies():
    """The engine's thread ends by SystemExit, and callbacks raise as well: each caller hears why."""
    callers = [Faulty(SystemExit()), Faulty(KeyboardInterrupt()), Caller(), Caller()]
    with serving() as server:
        slow = Slow(server)
        for caller, prompt in zip(callers, PROMPTS, strict=False):
            server.submit(prompt, params(), caller)

        def dying():
            raise SystemExit

        server.engine.step = dying
        slow.let(1)  # in case a step waits already
        for caller in callers:
            assert caller.end.finish_reason is FinishReason.ERROR
            assert caller.end.error == "the engine has ended: SystemExit"
        server.thread.join(LONG)
        for name in list(server.engine.book.requests):
            server.engine.cancel(name)  # so that its blocks are free, as `serving` wants it


@pytest.mark.parametrize("name", [["0"], None, 0])
def test_cancel_refuses_what_is_no_name(name):
    """In the caller's thread, and without any harm to the engine's."""
    with serving() as server:
        with pytest.raises(UserError, match="a request's name is a string"):
            server.cancel(name)
        server.submit(PROMPTS[0], params(), caller := Caller())
        assert caller.result() == expected()[0]


def test_a_prompt_is_copied_before_submit_returns():
    """The caller's list is changed right after the call, long before the engine's thread looks at it."""
    with serving() as server:
        slow = Slow(server)
        server.submit(PROMPTS[0], params(), first := Caller())
        prompt = list(PROMPTS[1])
        server.submit(prompt, params(), caller := Caller())
        prompt[:] = [5000] * 400
        slow.let(100)
        assert first.result() == expected()[0] and caller.result() == expected()[1]


def test_a_prompt_is_copied_before_stream_returns():
    """A generator that is not yet started has its own copy."""

    async def changed_meanwhile(server) -> list[int]:
        prompt = list(PROMPTS[1])
        outputs = server.stream(prompt, params())
        prompt[:] = [5000]
        return [token async for output in outputs for token in output.new_token_ids]

    with serving() as server:
        assert asyncio.run(asyncio.wait_for(changed_meanwhile(server), LONG)) == expected()[1]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"on_output": None}, "on_output is None"),
        ({"timeout": "1"}, "timeout is '1'"),
        ({"timeout": float("nan")}, "timeout is nan"),
        ({"params": {}}, "make it with SamplingParams"),
    ],
    ids=["on_output", "timeout", "nan", "params"],
)
def test_bad_arguments_are_refused_and_keep_no_place(values, words):
    """More often than there are places."""
    with serving(max_requests=2) as server:
        for _ in range(3):
            arguments = {"prompt_ids": PROMPTS[0], "params": params(), "on_output": Caller()} | values
            with pytest.raises(UserError, match=words):
                server.submit(**arguments)
        server.submit(PROMPTS[0], params(), caller := Caller())
        assert caller.result() == expected()[0]


def test_submitting_in_a_callback_is_refused():
    """It could wait for a place that only its own thread can free."""
    refused = []

    with serving(max_requests=1) as server:

        def greedy(output) -> None:
            caller(output)
            try:
                server.submit(PROMPTS[1], params(), caller)
            except UserError as error:
                refused.append(str(error))

        caller = Caller()
        server.submit(PROMPTS[0], params(), greedy)
        assert caller.result() == expected()[0]
    assert refused and "in a callback" in refused[0]


def test_closing_in_a_callback():
    """The thread cannot wait for itself: those inside are served, and it ends."""
    caller = Caller()
    with serving() as server:

        def closing(output) -> None:
            caller(output)
            server.close()

        server.submit(PROMPTS[0], params(), closing)
        assert caller.result() == expected()[0]


def test_a_closed_event_loop_takes_its_request_back():
    """Its coroutine was thrown away with the loop; the request does not run on without a reader."""
    with serving() as server:
        slow = Slow(server)
        loop = asyncio.new_event_loop()

        async def begin():
            outputs = server.stream(PROMPTS[0], params(max_tokens=200, ignore_eos=True))
            slow.let(3)
            await anext(outputs)
            return outputs

        outputs = loop.run_until_complete(begin())
        loop.close()
        slow.let(20)
        while server.engine.book.requests:
            threading.Event().wait(0.01)
        assert not server.engine.scheduler.running and server.engine.metrics.finished["cancelled"] == 1
        slow.let(1)
        del outputs


def test_prefixes_are_forgotten_between_two_steps():
    """The command runs in the engine's thread, like all others."""
    names = []
    with serving() as server:
        forget = server.engine.forget_prefixes
        server.engine.forget_prefixes = lambda: (forget(), names.append(threading.current_thread().name))
        server.forget_prefixes()
        server.submit(PROMPTS[0], params(), caller := Caller())
        assert caller.result() == expected()[0]
    assert names == ["engine"]


OPEN_AT_EXIT = """
import os
os.environ["CUDA_VISIBLE_DEVICES"] = ""
from toolkit import course
course.use("solutions")
from ch02_continuous_batching import SamplingParams
from ch08_full_engine import FullEngine, Server
from tests.helpers import tiny_model
server = Server(FullEngine(tiny_model(), num_blocks=80, block_size=4))
for i in range(3):
    server.submit([5, 6, 7], SamplingParams(max_tokens=200, ignore_eos=True), lambda output: last.append(output))
last = []
while not last:
    pass
import atexit
atexit.register(lambda: None)
"""


def test_a_process_may_end_with_an_open_server():
    """No abort (exit code 134) and no hang, though requests are being served."""
    done = subprocess.run([sys.executable, "-c", OPEN_AT_EXIT], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr[-500:]}"
