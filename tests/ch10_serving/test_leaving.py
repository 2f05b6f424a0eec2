"""Exercise 10.2: work for a client stops when the client goes away."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from ch10_serving import unless_gone
from tests.causes import has_result

LONG = 5  # seconds; only ever waited for if something hangs


class Client:
    """Its side of the connection: `receive` waits until it goes away."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def receive(self) -> dict[str, Any]:
        return await self.messages.get()

    def go_away(self) -> None:
        self.messages.put_nowait({"type": "http.disconnect"})


class Work:
    """Work that takes until it is told to end, and some moments to clean up.

    Attributes:
        diary: what happened to it.
    """

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.diary: list[str] = []

    async def do(self) -> str:
        self.diary.append("began")
        try:
            await self.may_end.wait()
            self.diary.append("done")
            return "the result"
        finally:
            for _ in range(3):
                await asyncio.sleep(0)
            self.diary.append("cleaned up")


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(alone(scenario))


async def alone(scenario: Coroutine[Any, Any, None]) -> None:
    """Run it; after it no task may be left."""
    before = asyncio.all_tasks()
    try:
        await asyncio.wait_for(scenario, LONG)
    except TimeoutError:
        pytest.fail(f"unless_gone has not come back within {LONG} s")
    except asyncio.CancelledError:
        pytest.fail(
            "unless_gone raised CancelledError, though it was not cancelled: that is the end of a task which it has "
            "cancelled itself, and it is not the caller's"
        )
    left = [task.get_coro().__name__ for task in asyncio.all_tasks() - before]
    assert not left, f"unless_gone has returned, and these coroutines go on: {', '.join(sorted(left))}"


@pytest.mark.exercise("10.2")
def test_the_works_result():
    """The client stays, though it sends something: the result comes back, and its end is not listened for any more."""

    async def scenario() -> None:
        client, work = Client(), Work()
        client.messages.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        asyncio.get_running_loop().call_later(0.01, work.may_end.set)
        try:
            result = await unless_gone(client.receive, work.do())
        except ClientDisconnect:
            pytest.fail(
                "the client has sent a message and stays, and ClientDisconnect was raised. Not every message says that "
                "the client has gone: until_disconnect(receive) waits for the one that does"
            )
        has_result(result, "unless_gone")
        assert result == "the result", f"the work returned 'the result', and unless_gone {result!r}"

    run(scenario())


@pytest.mark.exercise("10.2")
def test_the_works_error():
    """What the work raises is raised."""

    async def fail() -> None:
        raise ZeroDivisionError("in the work")

    async def scenario() -> None:
        try:
            result = await unless_gone(Client().receive, fail())
        except ZeroDivisionError:
            return
        pytest.fail(f"the work raised a ZeroDivisionError, and unless_gone returned {result!r}; it should raise it")

    run(scenario())


@pytest.mark.exercise("10.2")
def test_the_client_goes_away():
    """The work is cancelled, has cleaned up, and ClientDisconnect is raised."""

    async def scenario() -> None:
        client, work = Client(), Work()
        client.messages.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        asyncio.get_running_loop().call_later(0.01, client.go_away)
        asyncio.get_running_loop().call_later(1, work.may_end.set)
        try:
            result = await unless_gone(client.receive, work.do())
            pytest.fail(f"the client went away, and unless_gone returned {result!r}; it raises ClientDisconnect")
        except ClientDisconnect:
            pass
        assert work.diary == ["began", "cleaned up"], (
            "the client went away: expected are, all before ClientDisconnect, the entries began, cleaned up; seen were "
            f"{', '.join(work.diary)}"
            + (": it was told to stop, and not waited for" if work.diary == ["began"] else "")
            + (": it went on to its end for no client" if "done" in work.diary else "")
        )

    run(scenario())


@pytest.mark.exercise("10.2")
def test_it_is_cancelled_itself():
    """The server stops and cancels the caller: the work ends as well."""

    async def scenario() -> None:
        client, work = Client(), Work()
        task = asyncio.ensure_future(unless_gone(client.receive, work.do()))
        while not work.diary:
            await asyncio.sleep(0)
            if task.done():
                await task
        task.cancel()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(ended, asyncio.CancelledError), f"unless_gone was cancelled, and ended with {ended!r}"
        assert work.diary == ["began", "cleaned up"], (
            f"unless_gone was cancelled; expected are the entries began, cleaned up; seen were {', '.join(work.diary)}"
        )

    run(scenario())
