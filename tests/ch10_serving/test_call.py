"""A call beside its stream: outputs are gathered while it rests, unless there is nothing to wait for any more."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from ch02_continuous_batching import FinishReason, RequestOutput, SamplingParams
from ch09_persistent_batch import PersistentEngine
from ch10_serving import Admission, Call, Mailbox, Service
from ch10_serving.answers import CompletionAnswer
from ch10_serving.chunk_text import ChunkText
from ch10_serving.streaming import CHUNKS_PER_SECOND, Stream
from tests.simulated import needs_simulator
from toolkit.models import load_model

pytestmark = needs_simulator
NEVER, LONG = 1e6, 60  # seconds; LONG is only waited for if something hangs


def started(choices: int = 1, streamed: bool = True) -> Call:
    """A call whose requests run, of a server that does nothing."""
    loop = asyncio.get_running_loop()
    server = SimpleNamespace(submit=lambda *_, **__: "name", cancel=lambda name: None)
    metrics = SimpleNamespace(ended=lambda *_: None)
    call = Call(server, Mailbox(loop), Admission(choices, loop.time), metrics, choices, streamed)  # type: ignore[arg-type]
    call.start([([5], SamplingParams())] * choices)
    return call


def token(number: int) -> RequestOutput:
    return RequestOutput("name", (number,))


END = RequestOutput("name", (9,), FinishReason.LENGTH, (1, 9), "text")


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), LONG))


def test_those_inside_are_served_while_the_service_ends():
    """Closing waits in a thread of its own: the event loop goes on handing out, and who listens has all of it first."""
    from toolkit import simgpu

    simgpu.reset("eager")
    loaded = load_model("tiny")
    engine = PersistentEngine(loaded.model, loaded.tokenizer, max_rows=2, num_blocks=64, stream_text=False)

    async def scenario() -> None:
        service = Service(engine, loaded.tokenizer, "tiny", places=2)
        async with service.running():
            call = service.open_call(1, streamed=True)
            call.start([([5, 6, 7], SamplingParams(max_tokens=20, ignore_eos=True))])
            listening = asyncio.ensure_future(listen(call))
        assert listening.done(), "the service has ended, and who was inside still waits"
        assert listening.result() == 20

    async def listen(call: Call) -> int:
        count = 0
        while outputs := await call.more():
            count += len(outputs)
        return count

    run(scenario)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_without_a_rest_each_output_comes_at_once():
    async def scenario() -> None:
        call = started()
        for number in range(3):
            waiting = asyncio.ensure_future(call.more())
            await turns()
            call.take(0, token(number))
            assert [output.new_token_ids for _, output in await waiting] == [(number,)]

    run(scenario)


def test_outputs_are_gathered_while_it_rests():
    """Also those that were there before; the rest is over when its time is."""

    async def scenario() -> None:
        call = started()
        call.take(0, token(1))
        waiting = asyncio.ensure_future(call.more(0.05))
        await turns()
        call.take(0, token(2))
        await turns()
        assert not waiting.done(), "it does not rest"
        assert [output.new_token_ids for _, output in await waiting] == [(1,), (2,)]

    run(scenario)


def test_the_end_of_the_last_choice_ends_a_rest():
    async def scenario() -> None:
        call = started(choices=2)
        waiting = asyncio.ensure_future(call.more(NEVER))
        await turns()
        call.take(0, END)
        await turns()
        assert not waiting.done(), "one choice has ended, and another runs"
        call.take(1, END)
        assert len(await waiting) == 2
        assert await call.more(NEVER) == [], "everything has ended, so that nothing comes any more"

    run(scenario)


def test_of_an_answer_as_a_whole_only_first_and_last_output_travel():
    """In the engine's thread all others are left out: no token wakes an event loop that would not look at it."""

    async def scenario() -> None:
        call = started(choices=2, streamed=False)
        for number in range(3):
            call.put(0, token(number))
            call.mailbox.hand_out()
        call.put(1, token(7))
        call.put(0, END)
        call.put(1, END)
        call.mailbox.hand_out()
        kept = [(choice, output.new_token_ids) for choice, output in await call.more()]
        assert kept == [(0, (0,)), (1, (7,)), (0, (9,)), (1, (9,))]

    run(scenario)


@pytest.mark.parametrize("streams", [1, 64])
def test_streams_share_a_number_of_chunks_per_second(streams: int):
    """The first chunk goes out at once; before each later one a stream rests, the longer the more streams there are."""

    async def scenario() -> None:
        call, rests = started(), []
        more = call.more

        async def noted(rest: float = 0.0) -> Any:
            rests.append(rest)
            return await more()

        call.more = noted  # type: ignore[method-assign]
        stream = Stream(call, CompletionAnswer("tiny"), [ChunkText(None, False)], [[5]], False, lambda: streams)
        for output in (token(1), END):
            call.take(0, output)
        assert [part async for part in stream.events()][-1] == b"data: [DONE]\n\n"
        assert rests == [0.0, streams / CHUNKS_PER_SECOND]

    run(scenario)
