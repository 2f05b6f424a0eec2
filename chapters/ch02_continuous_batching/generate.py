"""A list of prompts, run to their ends: what somebody wants who has no requests of others to serve meanwhile."""

import itertools
from collections.abc import Sequence, Sized
from typing import TYPE_CHECKING

from ch02_continuous_batching.request import RequestOutput, SamplingParams
from toolkit.checked import shown
from toolkit.errors import UserError

if TYPE_CHECKING:
    from ch02_continuous_batching.engine import Engine


def generate(engine: "Engine", prompts: Sequence[Sequence[int]], params: SamplingParams) -> list[RequestOutput]:
    """Run a list of prompts on an engine.

    Requests that were added to it before are served meanwhile; their outputs come with its next `step`.

    Args:
        prompts: token ids, a list each.
        params: the same for all.

    Returns:
        each prompt's last output, in the order of the prompts.

    Raises:
        UserError: one of the prompts can never be served; then none was queued.
    """
    free_names = (name for name in map(str, itertools.count(engine.num_requests)) if name not in engine.requests)
    if not isinstance(prompts, Sized) or isinstance(prompts, str):
        raise UserError(f"prompts is {shown(prompts)}; it is a list of prompts, each a list of token ids")
    names = list(itertools.islice(free_names, len(prompts)))
    checked = [engine.check_request(name, prompt, params) for name, prompt in zip(names, prompts, strict=True)]
    kept, engine.outputs = engine.outputs, []  # before our names exist: one of these may have been called the same
    for name, prompt in zip(names, checked, strict=True):
        engine.add_request(name, prompt, params)
    brought: list[RequestOutput] = []
    try:
        while engine.has_work:
            brought += engine.step()
    except BaseException:  # nobody gets a list, so what came must come with the steps to follow
        engine.outputs = [*kept, *brought, *engine.outputs]
        raise
    last: dict[str, RequestOutput | None] = dict.fromkeys(names)
    engine.outputs = kept
    for output in brought:
        if output.request_id in last:
            last[output.request_id] = output
        else:
            engine.outputs.append(output)
    return [output for output in last.values() if output is not None]
