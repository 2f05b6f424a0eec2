"""The requests that a call makes of the engine: n choices for each of its prompts."""

import secrets

from ch02_continuous_batching import SamplingParams
from ch10_serving.prompts import answer_length
from ch10_serving.wire import ChatRequest, CompletionRequest

SEEDS = 2**64  # the engine's seeds are 0 to SEEDS - 1


def num_choices(request: CompletionRequest | ChatRequest) -> int:
    prompts = len(request.prompt) if isinstance(request, CompletionRequest) else 1
    return prompts * request.n


def engine_requests(
    request: CompletionRequest | ChatRequest, prompts: list[list[int]], max_length: int
) -> list[tuple[list[int], SamplingParams]]:
    """What each choice asks of the engine, all choices of the first prompt first.

    Choice i of a prompt is sampled with seed + i, so that the choices differ and each can be had again. Who names no
    seed gets one that is drawn here.
    """
    seed = secrets.randbelow(SEEDS) if request.seed is None else request.seed
    return [
        (
            ids,
            SamplingParams(
                max_tokens=answer_length(request) or max_length - len(ids),
                temperature=request.temperature,
                top_p=request.top_p,
                seed=(seed + i) % SEEDS,
                stop=request.stop,
            ),
        )
        for ids in prompts
        for i in range(request.n)
    ]
