"""The text of requests, made with every token or at the end.

A token's text takes longer than everything else that the host does for it, so who can wait for it should be able to.
A request with stop strings cannot: its text decides when it ends.
"""

from collections.abc import Iterable

from transformers import PreTrainedTokenizerBase

from ch02_continuous_batching import Request
from ch08_full_engine import StreamedTexts, TextStream


class ArrayTexts(StreamedTexts):
    """Takes the place of chapter 8's StreamedTexts.

    Args:
        stream_text: False makes the text of a request without stop strings when it ends, all at once.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None, stream_text: bool) -> None:
        super().__init__(tokenizer)
        self.stream_text = stream_text

    def watches(self, request: Request) -> bool:
        """Whether `push_token` has to be told of each token of this request."""
        return self.tokenizer is not None and (self.stream_text or bool(request.params.stop))

    def push_token(self, request: Request, token_id: int) -> TextStream:
        """Continue the text of a request with a token, and return it."""
        text = self.streams[request]
        text.push(token_id)
        return text

    def restart(self, requests: Iterable[Request]) -> None:
        self.streams.clear()
        for request in requests:
            self.open(request)
            if self.watches(request):
                self.streams[request].replay(request.output_ids)
