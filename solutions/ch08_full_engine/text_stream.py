"""From token ids to text, as they come: incremental detokenising.

A token is not a piece of text. A letter may take several tokens (UTF-8 gives "é" two bytes, an emoji four), and a stop
string may begin in one token and end in another. So what a caller gets is held back a little: bytes until they make a
character, and characters as long as they may become a stop string.

All this is host work, and none of it is needed to launch the next step. In the asynchronous order it is done while the
device computes.
"""

from collections.abc import Sequence

from tokenizers.decoders import DecodeStream
from transformers import PreTrainedTokenizerBase

from toolkit.errors import UserError


def held_back(text: str, stop: Sequence[str]) -> int:
    """How many characters at the end of `text` may be the beginning of a stop string (0 if none).

    For instance 2 for "one, tw" and ("two",). `text` contains no stop string as a whole.
    """
    # BEGIN SOLUTION 8.3
    longest = max(map(len, stop), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(each.startswith(text[-length:]) for each in stop):
            return length
    return 0
    # END SOLUTION


class TextStream:
    """The text of one request.

    Args:
        tokenizer: with a backend of the tokenizers library, which all of transformers' fast tokenizers have. None:
            there is no text.
        stop: the text ends before the first of these.

    Attributes:
        text: what may be shown for good.
        pending: characters that are held back.
        stopped: a stop string has appeared.
        error: why there is no more text; "" as long as all is well. One request's text is no reason to stop the others.

    Raises:
        UserError: the tokenizer has no such backend.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None, stop: Sequence[str] = ()) -> None:
        self.tokenizer = tokenizer
        self.backend = getattr(tokenizer, "backend_tokenizer", None)
        if tokenizer is not None and self.backend is None:
            raise UserError(f"{type(tokenizer).__name__} has no fast backend; text needs one, token ids do not")
        self.decoder = DecodeStream(skip_special_tokens=True)
        self.stop = tuple(stop)
        self.text = ""
        self.pending = ""
        self.stopped = False
        self.error = ""
        self._num_taken = 0

    def take(self) -> str:
        """The part of `text` that was not taken before."""
        new = self.text[self._num_taken :]
        self._num_taken = len(self.text)
        return new

    def replay(self, token_ids: Sequence[int]) -> None:
        """Tokens whose text was taken before this stream was made: the next `take` gives what comes after them."""
        for token_id in token_ids:
            self.push(token_id)
        self.take()

    def push(self, token_id: int) -> None:
        """The next token. Sets `error` if the tokenizer cannot make text of it."""
        if self.backend is None or self.stopped:
            return
        try:
            new = self.decoder.step(self.backend, token_id)
            self.push_text(new or "")  # None: the bytes so far are no character yet
        except Exception as error:  # the tokenizers library raises a bare Exception
            self.error = f"no text for token {token_id}: {error}"

    def push_text(self, new: str) -> None:
        """Take the next piece of text. `text` grows by what is certain now; at a stop string, `stopped` is set.

        The text ends right before the stop string, the first one in the text if there are several, and nothing of what
        came after it is kept.
        """
        # BEGIN SOLUTION 8.3
        self.pending += new
        found = [self.pending.index(stop) for stop in self.stop if stop in self.pending]
        if found:
            self.stopped = True
            self.text += self.pending[: min(found)]
            self.pending = ""
            return
        keep = held_back(self.pending, self.stop)
        self.text += self.pending[: len(self.pending) - keep]
        self.pending = self.pending[len(self.pending) - keep :]
        # END SOLUTION

    def finish(self, output_ids: Sequence[int]) -> None:
        """The request has ended: release what was held back; bytes that make no character become the sign for that."""
        if self.tokenizer is None or self.stopped or self.error:
            return
        self.text += self.pending
        self.pending = ""
        try:
            whole = str(self.tokenizer.decode(list(output_ids), skip_special_tokens=True))
        except Exception as error:  # a tokenizer may raise anything
            self.error = f"no text for the last tokens: {error}"
            return
        if whole.startswith(self.text):
            self.text = whole
