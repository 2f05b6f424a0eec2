"""A request book for a service: requests can be taken back, and text is handed out as it comes.

The rule is always that of chapter 2: what is in flight is never touched. The request's epoch advances, its blocks go
back at once, and commit drops its rows. The blocks may be handed out again while such a row still writes to them: all
writes are queued on the one compute stream, the old ones first.
"""

from ch02_continuous_batching import FinishReason, Request, RequestBook, RequestStatus
from ch08_full_engine.streamed_texts import StreamedTexts
from toolkit.checked import shown
from toolkit.errors import UserError


class ServiceBook(RequestBook):
    """Chapter 2's book, in which a request can be ended at any time."""

    texts: StreamedTexts

    def cancel(self, request_id: str) -> bool:
        """Take a request back, wherever it is. Its terminal output comes with the next step.

        Returns:
            False if no request of that name is left: that is no mistake, it may have ended a moment ago.

        Raises:
            UserError: it is no name at all.
        """
        if not isinstance(request_id, str):
            raise UserError(f"cancel: a request's name is a string; this one is {shown(request_id)}")
        if request_id not in self.requests:
            return False
        self.end(self.requests[request_id], FinishReason.CANCELLED)
        return True

    def end(self, request: Request, reason: FinishReason, error: str = "") -> None:
        """End a waiting or running request at once, and leave its one terminal output (`last_output`) in `outputs`.

        A running one is finished as in chapter 2; a waiting one owns nothing, it leaves the queue and is FINISHED. No
        row of it that may be in flight brings a token any more.
        """
        raise NotImplementedError("ch08 exercise 2: End a request wherever it is")

    def fail(self, request: Request, error: str) -> None:
        self.end(request, FinishReason.ERROR, error)

    def finish_reason(self, request: Request) -> FinishReason | None:
        """As in chapter 2, but the text is continued, not made again. Trouble with a text ends its request alone."""
        if request.output_ids[-1] in self.eos_ids and not request.params.ignore_eos:
            return FinishReason.EOS
        text = self.texts.push(request)
        if text.error:
            return FinishReason.ERROR
        if text.stopped:
            return FinishReason.STOP
        return FinishReason.LENGTH if len(request.output_ids) >= request.params.max_tokens else None
