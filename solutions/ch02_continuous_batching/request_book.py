"""The request book: a request is entered when it is added, and struck out with its last output.

It is the only place that ends a request. What comes back from the device goes through `commit`: each sampled token to
its request, and each request that has reached its end to its one terminal output.
"""

from collections.abc import Sequence

from ch02_continuous_batching.batch import Batch
from ch02_continuous_batching.request import FinishReason, Request, RequestOutput, RequestStatus, SamplingParams
from ch02_continuous_batching.scheduler import Scheduler
from ch02_continuous_batching.texts import Texts
from ch02_continuous_batching.undo import Undo


class RequestBook:
    """All requests that have not had their last output.

    Args:
        scheduler: is told of requests that come and end.
        texts: the text of their outputs.
        eos_ids: the model's end-of-sequence tokens, perhaps several.

    Attributes:
        requests: by name.
        outputs: what the next step returns before its own: outputs that no batch has brought.
        num_requests: how many have come so far.
        undo: of the step that is going on, or has raised and is not taken back yet; otherwise None.
    """

    def __init__(self, scheduler: Scheduler, texts: Texts, eos_ids: set[int]) -> None:
        self.scheduler, self.texts, self.eos_ids = scheduler, texts, eos_ids
        self.requests: dict[str, Request] = {}
        self.outputs: list[RequestOutput] = []
        self.num_requests = 0
        self.undo: Undo | None = None

    def add(self, request_id: str, prompt: list[int], params: SamplingParams) -> Request:
        """Enter a request that was checked, and queue it."""
        request = self.new_request(request_id, prompt, params)
        self.texts.open(request)
        self.num_requests += 1
        self.requests[request_id] = request
        self.scheduler.add(request)
        return request

    def new_request(self, request_id: str, prompt: list[int], params: SamplingParams) -> Request:
        return Request(request_id, prompt, params, arrival=self.num_requests)

    def gather(self, brought: Sequence[RequestOutput]) -> Sequence[RequestOutput]:
        """All that a step returns: the `outputs`, and what its batch has brought."""
        return [*self.outputs, *brought]

    def commit(self, batch: Batch, token_ids: Sequence[int]) -> Sequence[RequestOutput]:
        """A batch is through. Requests for which it has no token fail; the others' tokens go to `commit_tokens`."""
        if self.undo is not None:
            self.undo.committed = batch
        for request in batch.requests_without_token(token_ids):
            self.fail(request, "the model gave no finite logit for the next token")
        self.scheduler.written(batch.rows)
        return self.commit_tokens(batch, token_ids)

    def commit_tokens(self, batch: Batch, token_ids: Sequence[int]) -> Sequence[RequestOutput]:
        """Append each sampled token to its request, finish the requests that are done, and return the rows' outputs.

        `token_ids` has one entry per entry of `batch.sampling_rows`, in that order.

        A row whose epoch is not the request's any more is dropped: the request has finished or was preempted since.
        For the others: one pending sample less, the token is appended, `request.finish_reason` is set (`finish_reason`
        decides), a request with a reason is finished (`scheduler.finish`), and then `_output` makes the output.
        """
        outputs: list[RequestOutput] = []
        for row, token_id in zip(batch.sampling_rows, token_ids, strict=True):
            # BEGIN SOLUTION 2.5
            request = row.request
            if row.epoch != request.epoch:
                continue
            request.pending_samples -= 1
            request.output_ids.append(token_id)
            request.finish_reason = self.finish_reason(request)
            if request.finish_reason is not None:
                self.scheduler.finish(request)
            outputs.append(self._output(request, token_id))
            # END SOLUTION
        return outputs

    def finish_reason(self, request: Request) -> FinishReason | None:
        """Why the request ends with its newest token, or None if it goes on.

        An end-of-sequence token (`self.eos_ids`, perhaps several) counts first unless ignored: FinishReason.EOS. Then a
        stop string in `_text`, STOP, and then the length limit, LENGTH.
        """
        # BEGIN SOLUTION 2.5
        if request.output_ids[-1] in self.eos_ids and not request.params.ignore_eos:
            return FinishReason.EOS
        if request.params.stop and any(stop in self._text(request) for stop in request.params.stop):
            return FinishReason.STOP
        if len(request.output_ids) >= request.params.max_tokens:
            return FinishReason.LENGTH
        return None
        # END SOLUTION

    def _text(self, request: Request) -> str:
        """The output's text so far, special tokens left out; "" without a tokenizer."""
        return self.texts.so_far(request)

    def _output(self, request: Request, token_id: int) -> RequestOutput:
        """What a committed token brings its request; with the complete result if that has finished."""
        if request.finish_reason is None:
            return RequestOutput(request.request_id, (token_id,), new_text=self.texts.new(request))
        return self.last_output(request, (token_id,))

    def last_output(self, request: Request, new_token_ids: tuple[int, ...] = (), error: str = "") -> RequestOutput:
        """The terminal output of a request that has its `finish_reason`; from now on its name is free.

        Raises RuntimeError where the request has none yet, or has had its terminal output.
        """
        name, reason = request.request_id, request.finish_reason
        if reason is None:
            raise RuntimeError(f"request {name} has no finish_reason yet, so this cannot be its last output")
        if self.requests.get(name) is not request:
            raise RuntimeError(f"request {name} has had its last output already")
        if self.undo is not None:
            self.undo.ended.append(request)
        del self.requests[name]
        text, new_text, text_error = self.texts.close(request)
        ids = tuple(request.output_ids)
        return RequestOutput(name, new_token_ids, reason, ids, text, error or text_error, new_text)

    def fail(self, request: Request, error: str) -> None:
        """End a running request by itself. Its last output comes with this step; rows of it are dropped at commit."""
        self.scheduler.finish(request)
        request.finish_reason = FinishReason.ERROR
        self.outputs.append(self.last_output(request, error=error))

    def take_back(self) -> None:
        """Take outputs, tokens and ends of the step that is going on back; `restart` has to follow."""
        undo = self.undo
        if undo is None:
            return
        self.outputs = list(undo.outputs)
        for row in undo.committed.sampling_rows if undo.committed is not None else ():
            # Of a row that was dropped there is no token to take back.
            self.shorten(row.request, row.start + row.num_tokens - len(row.request.prompt_ids))
        for request in undo.ended:
            self.requests[request.request_id] = request
        undo.committed, undo.ended = None, []

    def shorten(self, request: Request, num_output_ids: int) -> None:
        """Let a request have no more than so many tokens of output."""
        del request.output_ids[num_output_ids:]

    def restart(self) -> None:
        """Nothing is computed or on its way any more; who has not had a last output waits or runs as before."""
        requests = sorted(self.requests.values(), key=lambda request: request.arrival)
        for request in requests:
            request.finish_reason = None
            if request.status is RequestStatus.FINISHED:
                request.status = RequestStatus.RUNNING
        self.texts.restart(requests)
        self.scheduler.restart(requests)
