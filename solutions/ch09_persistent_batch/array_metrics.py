"""Chapter 8's metrics, with the latencies of all rows of a step at once."""

from collections.abc import Sequence

from ch02_continuous_batching import Request, RequestOutput
from ch08_full_engine import Metrics
from ch09_persistent_batch.seats import SeatedRequest, Seats
from ch09_persistent_batch.step_outputs import BatchOutputs, StepOutputs
from toolkit import device


class ArrayMetrics(Metrics):
    """Takes the place of chapter 8's Metrics. When a request got its latest token stands in its seat's `latest_ms`."""

    def __init__(self, seats: Seats) -> None:
        super().__init__()
        self.seats = seats

    def added(self, request: Request) -> None:
        assert isinstance(request, SeatedRequest)
        request.latest_ms = device.now_ms()

    def count_outputs(self, outputs: Sequence[RequestOutput], now: float) -> None:
        """As in chapter 8. The seats of those that ended a moment ago still hold their times."""
        assert isinstance(outputs, StepOutputs)
        self.finished.update(output.finish_reason.value for output in outputs.ended if output.finish_reason)
        if not isinstance(outputs.brought, BatchOutputs):
            return
        seats = outputs.brought.rows.seats
        waited, self.seats.latest_ms[seats] = now - self.seats.latest_ms[seats], now
        is_first = outputs.brought.lengths == self.seats.first[seats]
        self.first_token_ms.extend(waited[is_first].tolist())
        self.inter_token_ms.extend(waited[~is_first].tolist())
        self.tokens += len(seats)
