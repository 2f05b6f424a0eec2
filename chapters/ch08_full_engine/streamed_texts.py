"""The texts of all requests of an engine, continued with every token (text_stream.py) instead of decoded again."""

from collections.abc import Iterable

from transformers import PreTrainedTokenizerBase

from ch02_continuous_batching import Request, Texts
from ch08_full_engine.text_stream import TextStream


class StreamedTexts(Texts):
    """Takes the place of chapter 2's Texts.

    Attributes:
        streams: the text of each request that has not ended.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None) -> None:
        super().__init__(tokenizer)
        self.streams: dict[Request, TextStream] = {}

    def open(self, request: Request) -> None:
        self.streams[request] = TextStream(self.tokenizer, request.params.stop)

    def push(self, request: Request) -> TextStream:
        """Continue the text of a request with its newest token, and return it."""
        text = self.streams[request]
        text.push(request.output_ids[-1])
        return text

    def new(self, request: Request) -> str:
        return self.streams[request].take()

    def close(self, request: Request) -> tuple[str, str, str]:
        text = self.streams.pop(request)
        text.finish(request.output_ids)
        return text.text, text.take(), text.error

    def restart(self, requests: Iterable[Request]) -> None:
        self.streams.clear()
        for request in requests:
            self.open(request)
            self.streams[request].replay(request.output_ids)
