"""A user hangs up: all requests of theirs, whose names start alike, are taken back at once.

A true story: in SGLang a request cancelled while its last prompt chunk was in flight showed one token, and then its
abort (2026). With transformers 5.17, continuous batching in its asynchronous mode, cancelling in flight could end the
engine with a KeyError. https://github.com/sgl-project/sglang/issues/34149
"""

from functools import partial

from ch02_continuous_batching import FinishReason, RequestStatus
from ch08_full_engine import ServiceBook, StreamedTexts
from ch08_full_engine.museum.build import async_engine


class HangUpBook(ServiceBook):
    """The book of this chapter, in which requests can be taken back, and all of a user's with one call."""

    def hang_up(self, user: str) -> int:
        """Take back all requests whose names start with `user`. Their terminal outputs come with the next step.

        Returns:
            how many there were.
        """
        requests = [request for name, request in self.requests.items() if name.startswith(user)]
        for request in requests:
            if request.status is RequestStatus.RUNNING:
                self.scheduler.blocks.free(request)
                self.scheduler.running.remove(request)
            else:
                self.scheduler.waiting.remove(request)
            request.status = RequestStatus.FINISHED
            request.finish_reason = FinishReason.CANCELLED
        return len(requests)


build = partial(async_engine, book=HangUpBook, texts=StreamedTexts)
