"""What preemption costs: a scheduler that counts the computed tokens that it throws away.

A true story: vLLM's asynchronous scheduler dropped the output in flight when it preempted for one reason, and not when
it preempted for lack of memory. Reported were repeated tokens, and a failed assertion that ended the engine.
https://github.com/vllm-project/vllm/pull/38624 and https://github.com/vllm-project/vllm/pull/47900
"""

from functools import partial

from ch02_continuous_batching import Request, RequestStatus
from ch07_carry_over import CarryScheduler
from ch08_full_engine.museum.build import async_engine


class CountingScheduler(CarryScheduler):
    """Preempts as in chapter 2, and counts.

    Attributes:
        wasted_tokens: computed tokens of all preempted requests, which have to be computed again.
    """

    wasted_tokens = 0

    def preempt(self, request: Request) -> None:
        """Take a running request's blocks away and let it wait, to be recomputed later."""
        self.wasted_tokens += request.num_computed_tokens
        self.blocks.free(request)
        self.running.remove(request)
        self.add(request)
        request.status = RequestStatus.WAITING
        request.num_computed_tokens = 0
        request.pending_samples = 0


build = partial(async_engine, scheduler=CountingScheduler)
