"""What preemption costs: a scheduler that counts the computed tokens that it throws away.

A true story: vLLM's asynchronous scheduler dropped the output in flight when it preempted for one reason, and not when
it preempted for lack of memory. Reported were repeated tokens, and a failed assertion that ended the engine.
https://github.com/vllm-project/vllm/pull/38624 and https://github.com/vllm-project/vllm/pull/47900
"""

from ch02_continuous_batching import Request, RequestStatus, Scheduler
from ch07_carry_over import AsyncEngine, CarryScheduler


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


class CountingEngine(AsyncEngine):
    """The asynchronous engine with that scheduler."""

    def make_scheduler(self) -> Scheduler:
        super().make_scheduler()  # sets up the queue of batches in flight
        config = self.config
        return CountingScheduler(self.blocks, config.max_rows, config.token_budget, config.policy)
