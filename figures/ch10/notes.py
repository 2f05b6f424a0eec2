"""An engine that keeps notes: when each of its steps returned, and how many tokens it has brought."""

import time
from collections.abc import Callable
from typing import Any


def noted(step: Callable[[], Any]) -> Callable[[], Any]:
    """A `step` that keeps, for each of its calls, when it returned and how many tokens it has brought: `notes`."""

    def wrapper() -> Any:  # noqa: ANN401 (see Engine.step)
        outputs = step()
        wrapper.notes.append((time.perf_counter(), len(outputs)))  # type: ignore[attr-defined]
        return outputs

    wrapper.notes = []  # type: ignore[attr-defined]
    return wrapper
