"""A client that goes away in the middle: whatever is done for it stops.

The event loop learns that a connection is closed, and tells the application through `receive`, but only if it is asked.
So beside all work for a client there is a task that asks.
"""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive

Result = TypeVar("Result")


async def until_disconnect(receive: Receive) -> None:
    """Returns when the client has gone. What it may send until then is not looked at."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_gone(receive: Receive, work: Coroutine[object, object, Result]) -> Result:
    """Do `work` for a client, and stop it as soon as the client has gone.

    Args:
        receive: tells of the client; the whole request has been read from it.
        work: not begun yet.

    Returns:
        the work's result. What it raises is raised here.

    Raises:
        ClientDisconnect: the client went first. The work was cancelled, and has come to its end: all that it cleans up
            is clean. Where both have ended at once either will do: the client reads neither.

    Nothing is left behind in any case, be it that this is cancelled itself: neither of the two goes on.
    """
    # BEGIN SOLUTION 10.2
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(until_disconnect(receive))
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
    # END SOLUTION
