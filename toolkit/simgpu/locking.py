"""Several host threads may use the simulator: what they ask for happens one after the other."""

import functools
import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Protocol


class Locked(Protocol):
    lock: threading.RLock  # type: ignore[valid-type]

    def in_box(self) -> bool:
        """Is this thread running a launched function?"""


def one_at_a_time(method: Callable[..., None]) -> Callable[..., None]:
    """Under the lock. A launched function, for which its holder may be waiting, will be refused at once anyway."""

    @functools.wraps(method)
    def wrapper(self: Locked, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        with nullcontext() if self.in_box() else self.lock:
            method(self, *args, **kwargs)

    return wrapper
