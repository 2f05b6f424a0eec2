"""The service that a replica makes in its process: the tiny model, and an engine that can hang."""

import time
from typing import Any

from toolkit.commands.serve_ray import make_service

HANGS_AT = 7  # tokens of a prompt; tiny has one token per byte


def service(rows: int) -> Any:  # noqa: ANN401 (a Service, of whichever code runs)
    """A replica of `make serve-ray MODEL=tiny` whose engine hangs when it gets a prompt of HANGS_AT tokens."""
    made = make_service("tiny", rows)
    step = made.engine.step

    def hanging() -> Any:  # noqa: ANN401 (see Engine.step)
        while any(len(request.prompt_ids) == HANGS_AT for request in made.engine.book.requests.values()):
            time.sleep(0.1)
        return step()

    made.engine.step = hanging
    return made
