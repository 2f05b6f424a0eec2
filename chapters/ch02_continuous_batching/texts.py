"""The text of each request, for stop strings and for its last output."""

from collections.abc import Iterable

from transformers import PreTrainedTokenizerBase

from ch02_continuous_batching.request import Request


class Texts:
    """Decodes all tokens of a request whenever its text is asked for. Chapter 8 continues the text instead.

    Args:
        tokenizer: None means that there is no text: it is "" wherever one is asked for.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None) -> None:
        self.tokenizer = tokenizer

    def open(self, request: Request) -> None:
        """A request has come. This chapter keeps nothing for it."""

    def so_far(self, request: Request) -> str:
        """The text of the request's output so far, special tokens left out."""
        if self.tokenizer is None:
            return ""
        return str(self.tokenizer.decode(request.output_ids, skip_special_tokens=True))

    def new(self, request: Request) -> str:
        """The text that has become certain since this was last asked. In this chapter it all comes at the end."""
        return ""

    def close(self, request: Request) -> tuple[str, str, str]:
        """The request has ended.

        Returns:
            its whole text, cut before the first stop string; what of it is new (see `new`); and what went wrong with
            the text, "" if nothing did.
        """
        text = self.so_far(request)
        ends = [text.index(stop) for stop in request.params.stop if stop in text]
        text = text[: min(ends, default=len(text))]
        return text, text, ""

    def restart(self, requests: Iterable[Request]) -> None:
        """A step was taken back: these requests are open, with the tokens that they have now."""
