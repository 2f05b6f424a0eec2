"""The text of one choice, made for each chunk that is sent, not for each token.

A chunk's tokens are decoded together, here, off the engine's thread. What is not certain yet is held back as in chapter
8: half of a character (a letter may take several tokens, and a chunk may end between them), or what may become a stop
string.
"""

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from ch02_continuous_batching import RequestOutput
from ch08_full_engine.text_stream import PieceDecoder


class ChunkDecoder(PieceDecoder):
    """Chapter 8's decoder, several tokens at a time."""

    def steps(self, backend: Any, token_ids: Sequence[int]) -> str:  # noqa: ANN401 (see TextStream)
        """The text that has become certain with the next tokens; they are decoded once.

        With byte fallback one by one all the same, since there it matters where a run of bytes ends.
        """
        if not token_ids or self.byte_fallback:
            return "".join(self.step(backend, token_id) for token_id in token_ids)
        *earlier, last = token_ids
        self._window += earlier
        return self.step(backend, last)


class ChunkText:
    """The text of one choice, as far as it was sent.

    Args:
        tokenizer: None if the model has none; then there is no text.
        in_engine: the engine makes the text token by token, because the request has stop strings.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None, in_engine: bool) -> None:
        self.backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        self.in_engine = in_engine
        self.decoder: Any = ChunkDecoder(tokenizer)
        self.num_sent = 0

    def more(self, outputs: Sequence[RequestOutput]) -> str:
        """The text that these outputs have made certain. The last output has all of it; then nothing is held back."""
        *_, latest = outputs
        if latest.finish_reason is not None:
            new = latest.text[self.num_sent :]
        elif self.in_engine:
            new = "".join(output.new_text for output in outputs)
        elif self.backend is None:
            return ""
        else:
            new = self.decoder.steps(self.backend, [token for each in outputs for token in each.new_token_ids])
        self.num_sent += len(new)
        return new
