"""One model on several GPUs: each has a share of every layer, and all of them compute every step together.

This is for a model that does not fit one GPU. Where it does fit, two replicas serve more than one model in two shares.

How a layer is shared out (Shoeybi et al., "Megatron-LM", 2019) is the transformers library's part: `DistributedConfig`,
and the plan that comes with the model (toolkit/models/share.py). Every rank is a process with a GPU of its own. It has
the rows of the q, k, v, gate and up weights that make *its* attention heads and columns, and computes these by itself.
Of o and down it has the columns that read them, so what comes out is one part of a sum. All ranks' parts are added up,
and all ranks get the sum: an all-reduce, twice a layer. The engine's part is to count a rank's own heads when it makes
the KV cache (toolkit/paged_cache.py), since config.json has those of the whole model. So N GPUs have room for more
than N times as many tokens, since each has a share of the weights only.

**Every rank runs an engine, and all ranks must form the same batch at every step.** An all-reduce has no name: the
first of one rank meets the first of the others, the second the second. If one rank's batch has a row more, numbers of
different requests are added up, or all ranks wait forever. With one batch at a time the ranks could compare before
each step what they are about to do. An asynchronous engine launches batch N + 1 before any rank knows what batch N
brings. It cannot be taken back, and a question to the other ranks in every step is the kind of wait that asynchrony was
to avoid. So the ranks have to agree without asking, which means that what a scheduler does must follow from requests
and tokens alone. The tokens are equal, since all ranks sample from the same logits with the same random numbers. What
depends on *time* is decided by one rank, which tells the others beforehand: which requests join, or are cancelled,
before which step. An engine that asks whether a batch is done already, and goes on if it isn't, also decides by time.
Chapter 7's never does: it commits batch N after it has launched N + 1, whether N was done early or late.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch.distributed as dist
from torch import Tensor

from ch02_continuous_batching import Engine, SamplingParams

Arrival = tuple[str, list[int], SamplingParams]  # the arguments of add_request


def serve_together(engine: Engine[Tensor], arrivals: Iterable[Sequence[Arrival]] = ()) -> dict[str, tuple[int, ...]]:
    """Step the engines of all ranks until every request has ended.

    Args:
        engine: this rank's. All were built with the same arguments.
        arrivals: on rank 0, the requests that join before the first step, before the second, and so on; the other
            ranks hear of them from rank 0, and what they are given here is not looked at.

    Returns:
        each request's output ids by its name, the same on every rank.
    """
    left = iter(arrivals)
    outputs: dict[str, tuple[int, ...]] = {}
    while True:
        news: list[Any] = [None]
        if dist.get_rank() == 0:
            news = [next(left, [] if engine.has_work else None)]
        dist.broadcast_object_list(news, src=0)
        if news[0] is None:
            return outputs
        for name, prompt, params in news[0]:
            engine.add_request(name, prompt, params)
        for output in engine.step():
            if output.finish_reason is not None:
                outputs[output.request_id] = output.output_ids
