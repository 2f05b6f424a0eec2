"""The server: callbacks and generators, back-pressure, closing, and what must not leave anybody hanging."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Queue

import pytest

from ch02_continuous_batching import FinishReason
from ch08_full_engine import EngineThread, Server
from tests.ch08_full_engine.full_runs import NUM_BLOCKS, engine_on, params
from tests.helpers import tiny_tokenizer
from tests.simulated import PROMPTS, expected, needs_simulator
from toolkit.errors import UserError

pytestmark = needs_simulator
LONG = 20  # seconds; only ever waited for if somebody hangs


class Caller:
    """A callback that keeps what it gets, and can be waited for."""

    def __init__(self) -> None:
        self.outputs: list = []
        self.done = threading.Event()

    def __call__(self, output) -> None:
        self.outputs.append(output)
        if output.finish_reason is not None:
            self.done.set()

    def result(self) -> list[int]:
        assert self.done.wait(LONG), f"a caller never got its last output; it got {self.outputs}"
        return [token for output in self.outputs for token in output.new_token_ids]

    @property
    def end(self):
        self.result()
        return self.outputs[-1]


@contextmanager
def serving(max_requests: int = 64, tokenizer=None, **options) -> Iterator[Server]:
    """A server that is closed in any case; with all blocks free and an empty gate afterwards."""
    server = Server(engine_on(tokenizer=tokenizer, **options), max_requests)
    with server:
        yield server
    assert not server.thread.is_alive()
    blocks = server.engine.scheduler.blocks
    free = blocks.num_free_blocks
    assert free == blocks.num_blocks, f"the server is closed, and {free} blocks are free"
    assert server.gate.inside == 0, f"all have been served, and the gate says that {server.gate.inside} are inside"
    assert not server.thread.callbacks


class Slow:
    """Holds an engine's steps back until it is told how many may run."""

    def __init__(self, server: Server) -> None:
        self.allowed: Queue[None] = Queue()
        step = server.engine.step

        def held_back():
            self.allowed.get(timeout=LONG)
            return step()

        server.engine.step = held_back

    def let(self, steps: int) -> None:
        for _ in range(steps):
            self.allowed.put(None)


# --- tokens out ---


def test_callbacks_get_generates_tokens():
    """All prompts from several threads: each callback gets its tokens in order, and one terminal output."""
    callers = [Caller() for _ in PROMPTS]
    with serving() as server:
        threads = [
            threading.Thread(target=server.submit, args=(prompt, params(), caller))
            for prompt, caller in zip(PROMPTS, callers, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
        assert [caller.result() for caller in callers] == expected()
    assert all([output.finish_reason is not None for output in c.outputs].count(True) == 1 for c in callers)


async def listen(server: Server, prompt: list[int], **values) -> list:
    return [output async for output in server.stream(prompt, params(**values))]


def test_generators_get_generates_tokens():
    """All prompts at once through async generators, in one event loop."""

    async def all_of_them(server: Server) -> list[list]:
        return await asyncio.gather(*(listen(server, prompt) for prompt in PROMPTS))

    with serving() as server:
        results = asyncio.run(asyncio.wait_for(all_of_them(server), LONG))
    assert [[t for output in outputs for t in output.new_token_ids] for outputs in results] == expected()
    assert all(outputs[-1].finish_reason is FinishReason.LENGTH for outputs in results)


def test_text_comes_in_pieces():
    """The pieces of text together are the text of the last output."""
    with serving(tokenizer=tiny_tokenizer()) as server:
        outputs = asyncio.run(asyncio.wait_for(listen(server, PROMPTS[0]), LONG))
    assert "".join(output.new_text for output in outputs) == outputs[-1].text != ""


def test_deliveries_are_told_once_for_all_outputs_of_a_step():
    """A bell behind each step's outputs, not behind each output; also behind those that no step has brought."""
    diary: list[str] = []
    server = Server(engine_on(max_rows=len(PROMPTS)), on_delivery=lambda: diary.append("bell"))
    slow = Slow(server)
    callers = [Caller() for _ in PROMPTS]
    for caller, prompt in zip(callers, PROMPTS, strict=True):
        server.submit(prompt, params(), lambda output, caller=caller: (diary.append("output"), caller(output)))
    slow.let(500)
    assert [caller.result() for caller in callers] == expected()
    server.close()
    outputs, bells = diary.count("output"), diary.count("bell")
    assert diary[-1] == "bell" and outputs > bells > 0
    assert bells <= server.engine.num_steps + 2, f"{server.engine.num_steps} steps, and {bells} bells"


def test_a_server_without_requests_waits_and_closes():
    """Started with no caller there, closed with no caller there: the thread sleeps, and ends."""
    with serving() as server:
        assert server.thread.is_alive()
    assert server.engine.num_steps == 0, "no request came, and the engine has made steps"


# --- callers that go their own way ---


def test_a_listener_that_leaves_takes_its_request_back():
    """Two tokens, and out of the loop: the request is cancelled, its blocks are free, and others do not notice."""

    async def leave_early(server: Server) -> list[int]:
        other = asyncio.create_task(listen(server, PROMPTS[1]))
        got: list[int] = []
        async for output in server.stream(PROMPTS[0], params(max_tokens=200, ignore_eos=True)):
            got += output.new_token_ids
            if len(got) >= 2:
                break
        right = [t for output in await other for t in output.new_token_ids]
        assert right == expected()[1]
        return got

    with serving() as server:
        got = asyncio.run(asyncio.wait_for(leave_early(server), LONG))
    assert got == expected()[0][:2]
    assert server.engine.metrics.finished == {"cancelled": 1, "length": 1}, server.engine.metrics.finished
    assert server.engine.metrics.tokens < 200, "the request went on after its listener had left"


def test_a_listener_that_is_cancelled_takes_its_request_back():
    """The listening task is cancelled while it waits for a token."""

    async def cancel_it(server: Server) -> None:
        first = asyncio.Event()

        async def listening() -> None:
            async for _ in server.stream(PROMPTS[0], params(max_tokens=200)):
                first.set()

        task = asyncio.create_task(listening())
        await first.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with serving() as server:
        asyncio.run(asyncio.wait_for(cancel_it(server), LONG))
    assert server.engine.metrics.finished == {"cancelled": 1}


def test_a_callback_that_raises_ends_its_own_request(caplog):
    """Its request is cancelled, the mistake is logged, and the others get their tokens."""

    def broken(output) -> None:
        raise ZeroDivisionError("a mistake of the caller")

    caller = Caller()
    with serving() as server:
        server.submit(PROMPTS[0], params(max_tokens=200), broken)
        server.submit(PROMPTS[1], params(), caller)
        assert caller.result() == expected()[1]
    assert server.engine.metrics.finished == {"cancelled": 1, "length": 1}
    assert "its callback failed" in caplog.text and "a mistake of the caller" in caplog.text


def test_cancel_by_name():
    """A request that was submitted is taken back by its name; a second cancel changes nothing."""
    caller = Caller()
    with serving() as server:
        slow = Slow(server)
        name = server.submit(PROMPTS[0], params(), caller)
        slow.let(3)
        while not caller.outputs:
            pass
        server.cancel(name)
        server.cancel(name)
        slow.let(50)
        assert caller.end.finish_reason is FinishReason.CANCELLED
        assert caller.result() == expected()[0][: len(caller.result())]


# --- back-pressure ---


def test_the_third_caller_waits_and_gets_in_when_one_leaves():
    """A server for two: the third caller's submit returns only after one of the others has ended."""
    first, second, third = Caller(), Caller(), Caller()
    with serving(max_requests=2) as server:
        slow = Slow(server)
        server.submit(PROMPTS[0], params(max_tokens=2), first)
        server.submit(PROMPTS[1], params(), second)
        inside = threading.Event()

        def come_third() -> None:
            server.submit(PROMPTS[2], params(), third)
            inside.set()

        threading.Thread(target=come_third).start()
        while not server.gate.waiting:
            pass
        assert not inside.is_set(), "two are inside of a server for two, and a third was let in"
        slow.let(500)
        assert inside.wait(LONG), "one has left, and the third caller still waits outside"
        assert third.result() == expected()[2] and first.done.is_set()


def test_who_waits_too_long_gives_up():
    """A timeout: a clear error, and the place goes to somebody else later."""
    caller, other = Caller(), Caller()
    with serving(max_requests=1) as server:
        slow = Slow(server)
        server.submit(PROMPTS[0], params(), caller)
        with pytest.raises(TimeoutError, match="no place within 0.01 s: 1 requests are being served"):
            server.submit(PROMPTS[1], params(), other, timeout=0.01)
        slow.let(500)
        caller.result()
        server.submit(PROMPTS[2], params(), other, timeout=LONG)
        assert other.result() == expected()[2]


def test_a_listener_that_gives_up_outside_leaves_no_trace():
    """A coroutine is cancelled while it waits for a place: it takes none, and none is lost."""

    async def crowd(server: Server, slow: Slow) -> list[int]:
        inside = asyncio.create_task(listen(server, PROMPTS[0]))
        while not server.gate.inside:
            await asyncio.sleep(0)
        outside = asyncio.create_task(listen(server, PROMPTS[1]))
        later = asyncio.create_task(listen(server, PROMPTS[2]))
        while len(server.gate.waiting) < 2:
            await asyncio.sleep(0)
        outside.cancel()
        slow.let(500)
        await inside
        return [t for output in await later for t in output.new_token_ids]

    with serving(max_requests=1) as server:
        slow = Slow(server)
        assert asyncio.run(asyncio.wait_for(crowd(server, slow), LONG)) == expected()[2]


# --- bad requests, a lost engine, the end ---


def test_a_bad_request_fails_alone_and_keeps_no_place():
    """Refused with a clear error, more often than there are places; also a prompt that is no list of tokens at all."""
    caller = Caller()
    with serving(max_requests=2) as server:
        for _ in range(3):
            with pytest.raises(UserError, match="token 5000 is none of the model's"):
                server.submit([5000], params(), caller, timeout=LONG)
            with pytest.raises(UserError, match="exceed the context"):
                asyncio.run(listen(server, [5] * 500))
            with pytest.raises(UserError, match="'five', which is not a whole number"):
                server.submit(["five"], params(), caller, timeout=LONG)
        server.submit(PROMPTS[0], params(), caller, timeout=LONG)
        assert caller.result() == expected()[0]


def test_a_tokenizer_that_cannot_stream_fails_requests_not_the_server():
    """What only the engine's thread finds out ends that request with ERROR, and the thread lives on."""

    class SlowTokenizer:
        pass

    caller = Caller()
    with serving(tokenizer=SlowTokenizer()) as server:
        server.submit(PROMPTS[0], params(), caller)
        assert caller.end.finish_reason is FinishReason.ERROR and "no fast backend" in caller.end.error
        assert server.thread.is_alive()


def test_a_server_needs_room_for_somebody():
    """max_requests below 1 is refused."""
    with pytest.raises(UserError, match="max_requests is 0"):
        Server(engine_on(), 0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_engine_that_dies_leaves_no_caller_hanging():
    """The engine's thread ends by a race report: those inside get an ERROR, those outside and later ones an error."""
    from toolkit.simgpu.errors import Party, Race, RaceError
    from toolkit.simgpu.sites import Site

    party = Party("a copy", "h2d", Site("somewhere.py", 1), writes=True)
    callers, refused = [Caller() for _ in range(2)], []
    server = Server(engine_on(), max_requests=2)
    slow = Slow(server)
    step, count = server.engine.step, iter(range(100))

    def dying():
        if next(count) == 3:
            raise RaceError(Race("a buffer", party, party, "none"))
        return step()

    server.engine.step = dying
    for caller, prompt in zip(callers, PROMPTS, strict=False):
        server.submit(prompt, params(), caller)

    def come_third() -> None:
        try:
            server.submit(PROMPTS[2], params(), Caller())
        except UserError as error:
            refused.append(str(error))

    third = threading.Thread(target=come_third)
    third.start()
    while not server.gate.waiting:
        pass
    slow.let(10)
    for caller in callers:
        assert caller.end.finish_reason is FinishReason.ERROR and "the engine has ended: RACE" in caller.end.error
    third.join(LONG)
    assert not third.is_alive() and refused == ["the server is closed"], f"the third caller: {refused or 'still waits'}"
    with pytest.raises(UserError, match="the server is closed"):
        server.submit(PROMPTS[3], params(), Caller())
    server.close()


def test_a_lost_device_is_told_to_every_caller():
    """After an error that the device does not get over: one ERROR each, and later callers are told to restart."""
    callers = [Caller() for _ in range(4)]
    server = Server(engine_on(max_rows=2))
    forward = server.engine.executor.forward
    compute, count = forward.forward, iter(range(1000))

    def failing(*arguments):
        if next(count) == 3:
            raise RuntimeError("made up")
        return compute(*arguments)

    forward.forward = failing
    for caller, prompt in zip(callers, PROMPTS, strict=False):
        server.submit(prompt, params(), caller)
    for caller in callers:
        assert caller.end.finish_reason is FinishReason.ERROR and "DeviceError" in caller.end.error
    with pytest.raises(UserError, match="restart the process"):
        server.submit(PROMPTS[0], params(), Caller())
    server.close()
    assert server.gate.inside == 0 and server.engine.scheduler.blocks.num_free_blocks == NUM_BLOCKS


def test_closing_serves_those_inside():
    """close() comes while requests run and wait: all of them get all their tokens, new ones are refused."""
    callers = [Caller() for _ in PROMPTS]
    server = Server(engine_on(max_rows=3))
    for caller, prompt in zip(callers, PROMPTS, strict=True):
        server.submit(prompt, params(), caller)
    server.close()
    assert [caller.done.is_set() for caller in callers] == [True] * len(PROMPTS), "close returned, and somebody waits"
    assert [caller.result() for caller in callers] == expected()
    with pytest.raises(UserError, match="the server is closed"):
        server.submit(PROMPTS[0], params(), callers[0])


def test_an_event_loop_that_is_gone_does_no_harm(caplog):
    """A loop is closed without a word to its generators: the engine's thread goes on, without errors in the log."""

    async def first_token(server: Server, keep: list) -> None:
        generator = server.stream(PROMPTS[0], params(max_tokens=100))
        keep.append(generator)
        await anext(generator)

    keep: list = []
    caller = Caller()
    with serving() as server:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(first_token(server, keep))
        loop.close()
        server.submit(PROMPTS[1], params(), caller)
        assert caller.result() == expected()[1]
    assert not caplog.records, caplog.text


def test_steps_are_made_while_collections_are_short(monkeypatch: pytest.MonkeyPatch):
    """A pass of the collector over the whole heap takes 0.1 s: a service freezes what is there, and undoes it."""
    diary: list[str] = []

    @contextmanager
    def short_collections() -> Iterator[None]:
        diary.append("frozen")
        yield
        diary.append("as before")

    monkeypatch.setitem(EngineThread.run.__globals__, "short_collections", short_collections)
    with serving() as server:
        step = server.engine.step
        monkeypatch.setattr(server.engine, "step", lambda: (diary.append("step"), step())[1])
        caller = Caller()
        server.submit(PROMPTS[0], params(), caller)
        caller.result()
    assert diary[0] == "frozen" and diary[-1] == "as before" and "step" in diary, f"in this order: {diary}"
