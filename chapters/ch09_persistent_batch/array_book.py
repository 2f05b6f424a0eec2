"""The request book over arrays: a commit looks at single requests only where something happens to them.

The order is that of chapter 2: the rows that do not count any more are dropped, tokens are appended, then come the
ends. Three masks say who ends or has text that is waited for; for all others an addition is the whole commit.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from ch02_continuous_batching import Batch, FinishReason, Request, RequestOutput, SamplingParams
from ch08_full_engine import ServiceBook
from ch09_persistent_batch.array_batch import ArrayBatch
from ch09_persistent_batch.array_scheduler import ArrayScheduler
from ch09_persistent_batch.array_texts import ArrayTexts
from ch09_persistent_batch.seats import Array, SeatedRequest, Seats
from ch09_persistent_batch.step_outputs import StepOutputs


class ArrayBook(ServiceBook):
    """Takes the place of chapter 8's ServiceBook, and ends requests in the same ways."""

    texts: ArrayTexts

    def __init__(self, seats: Seats, scheduler: ArrayScheduler, texts: ArrayTexts, eos_ids: set[int]) -> None:
        super().__init__(scheduler, texts, eos_ids)
        self.seats = seats

    def new_request(self, request_id: str, prompt: list[int], params: SamplingParams) -> SeatedRequest:
        request = SeatedRequest(request_id, prompt, params, arrival=self.num_requests)
        request.watched = self.texts.watches(request)
        return request

    def gather(self, brought: Sequence[RequestOutput]) -> Sequence[RequestOutput]:
        if isinstance(brought, StepOutputs):
            return replace(brought, kept=tuple(self.outputs))
        return super().gather(brought)

    def commit_tokens(self, batch: Batch, token_ids: Sequence[int]) -> StepOutputs:
        """Append each sampled token to its request, for all at once, and end the requests that are done.

        Args:
            batch: an ArrayBatch.
            token_ids: (sampling rows,) int64.
        """
        rows = cast(ArrayBatch, batch).sampling_rows
        token_array = np.asarray(token_ids)
        alive = rows.alive
        if not alive.all():
            rows, token_array = rows.chosen(alive), token_array[alive]
        lengths = self.append(rows.seats, token_array)
        is_eos = self.ends_with_eos(rows.seats, token_array)
        special = is_eos | (lengths >= self.seats.limit[rows.seats]) | self.seats.watched[rows.seats]
        outputs = StepOutputs(rows, token_array, lengths, {})
        for i in special.nonzero()[0].tolist():
            outputs.special[i] = self.look_at(rows.requests[i], int(token_array[i]), bool(is_eos[i]))
        return outputs

    def append(self, seats: Array, token_ids: Array) -> Array:
        """Append a token to each of these seats' sequences: the host knows one more.

        `promised` and `computed` stay as they are: they were raised when the token's row was scheduled, and by now they
        may be ahead by the step that was launched since.

        Args:
            seats, token_ids: (seats,) int64.

        Returns:
            the new lengths, (seats,) int64.
        """
        s = self.seats
        raise NotImplementedError("ch09 exercise 6: Commit a whole step")

    def ends_with_eos(self, seats: Array, token_ids: Array) -> Array:
        """Whose newest token, which `append` has just written, ends the sequence; none's with `heeds_eos` False.

        The limit is asked for elsewhere (`commit_tokens`).

        Args:
            seats, token_ids: (seats,) int64; the newest token of each.

        Returns:
            (seats,) bool.
        """
        eos = np.array([*self.eos_ids], np.int64)
        raise NotImplementedError("ch09 exercise 6: Commit a whole step")

    def look_at(self, request: SeatedRequest, token_id: int, is_eos: bool) -> RequestOutput:
        """The output of a request that may have ended, or whose text is wanted, with its newest token."""
        reason = FinishReason.EOS if is_eos else None
        if reason is None and request.watched:
            text = self.texts.push_token(request, token_id)
            reason = FinishReason.ERROR if text.error else FinishReason.STOP if text.stopped else None
        if reason is None and self.seats.known[request.seat] >= self.seats.limit[request.seat]:
            reason = FinishReason.LENGTH
        if reason is None:
            return RequestOutput(request.request_id, (token_id,), new_text=self.texts.new(request))
        self.scheduler.finish(request)
        request.finish_reason = reason
        return self.last_output(request, (token_id,))

    def shorten(self, request: Request, num_output_ids: int) -> None:
        """As in chapter 2, wherever the tokens are at this moment."""
        super().shorten(request, num_output_ids)
        seat = cast(SeatedRequest, request).seat
        if seat >= 0:
            self.seats.known[seat] = min(self.seats.known[seat], len(request.prompt_ids) + num_output_ids)

    def restart(self) -> None:
        """As in chapter 2; who has a seat gets its tokens back first, since texts are made from them."""
        for request in self.requests.values():
            self.seats.save(cast(SeatedRequest, request))
        super().restart()
