"""Half of the requests in a batch, the other half in the next.

Two batches are in flight, and a request cannot be in both: its next token is what the first one computes. So each batch
takes half of the requests, and two groups take turns. That is this chapter's price: the weights are read twice to give
every request one token.
"""

from ch02_continuous_batching import Scheduler


class HalfBatchScheduler(Scheduler):
    """Puts at most half of the requests into a step, so that the other half is left for the next one.

    Requests in flight have no uncomputed token and are passed over anyway (see `num_tokens_for`). With the limit, two
    groups that take turns come about by themselves.
    """

    def rows_limit(self) -> int:
        """Half of the requests that could run, rounded up: those running and waiting, but no more than max_rows."""
        raise NotImplementedError("ch05 exercise 1: Half of the requests")
