"""Chapter 8's metrics, with the latencies of all rows of a step at once."""

from collections.abc import Sequence

from ch02_continuous_batching import Request, RequestOutput
from ch08_full_engine import Metrics
from ch09_persistent_batch.seats import SeatedRequest, Seats
from ch09_persistent_batch.step_outputs import StepOutputs
from toolkit import device


class ArrayMetrics(Metrics):
    """Takes the place of chapter 8's Metrics. When a request got its latest token is in its seat's `latest_ms`."""

    def __init__(self, seats: Seats) -> None:
        super().__init__()
        self.seats = seats

    def added(self, request: Request) -> None:
        assert isinstance(request, SeatedRequest)
        request.latest_ms = device.now_ms()

    def count_outputs(self, outputs: Sequence[RequestOutput], now: float) -> None:
        """As in chapter 8. The seats of those that ended a moment ago still hold their times."""
        ended = outputs.ended if isinstance(outputs, StepOutputs) else outputs  # without a batch there are only ends
        for output in ended:
            if output.finish_reason is not None:
                self.finished[output.finish_reason.value] += 1
        if not isinstance(outputs, StepOutputs):
            return
        seats = outputs.rows.seats
        waited, self.seats.latest_ms[seats] = now - self.seats.latest_ms[seats], now
        is_first = outputs.lengths == self.seats.first[seats]
        self.first_token_ms.extend(waited[is_first].tolist())
        self.inter_token_ms.extend(waited[~is_first].tolist())
        self.tokens += len(seats)
