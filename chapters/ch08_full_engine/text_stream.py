"""From token ids to text, as they come: incremental detokenising.

A token is not a piece of text. A letter may take several tokens (UTF-8 gives "é" two bytes, an emoji four), and a stop
string may begin in one token and end in another. So what a caller gets is held back a little: bytes until they make a
character, and characters as long as they may become a stop string.

The pieces together are what decoding all tokens at once gives, so nothing is shown that a later token can change. With
a byte-level tokenizer (GPT-2, Llama 3, Qwen) that holds back a character without its last byte. With byte fallback
(Llama 2, Mistral), where only rare characters are spelled in tokens such as <0xC3>, it holds back a whole run of them:
if the run is valid UTF-8 at its end it becomes text, and if not, each of its bytes becomes a U+FFFD.

All this is host work, and none of it is needed to launch the next step. In the asynchronous order it is done while the
device computes.
"""

import re
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from toolkit.errors import UserError

NO_CHARACTER = "\ufffd"  # what decoding writes for bytes that make no character, or none yet
LONGEST_WINDOW = 6  # tokens decoded at a time; a longer window takes longer, a shorter one is begun more often
BYTE_TOKEN = re.compile("<0x[0-9A-F]{2}>")


def held_back(text: str, stop: Sequence[str]) -> int:
    """How many characters at the end of `text` may be the beginning of a stop string (0 if none).

    For instance 2 for "one, tw" and ("two",). `text` contains no stop string as a whole.
    """
    raise NotImplementedError("ch08 exercise 3: Show only what is certain")


class PieceDecoder:
    """Decodes tokens one by one.

    Attributes:
        uncertain: what the tokens since the last piece would read if no other followed, whole characters only.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None) -> None:
        # A few tokenizers take away spaces before punctuation, which their backend alone does not.
        self.cleans_up = tokenizer if getattr(tokenizer, "clean_up_tokenization_spaces", False) else None
        self.byte_fallback = "ByteFallback" in str(
            getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", "")
        )
        self.uncertain = ""
        # The tokens of some pieces (a word may look different where a text begins), and those that came since.
        self._window: list[int] = []
        self._text = ""
        self._num_old, self._old_text = 0, ""  # the pieces' part of both
        self._in_bytes = False  # whether the window ends within a run of byte tokens

    def step(self, backend: Tokenizer, token_id: int) -> str:
        """The text that has become certain with the next token: a piece, or "" if there is none yet."""
        self._window.append(token_id)
        text = self._decode(backend)
        if self.byte_fallback and BYTE_TOKEN.fullmatch(backend.id_to_token(token_id) or ""):
            self._in_bytes = True
        elif text != self._text:  # special tokens are left out, so they do not end a run
            self._in_bytes = False
        self._text = text
        new = text[len(self._old_text) :] if text.startswith(self._old_text) else ""
        if not new or self._in_bytes or new.endswith(NO_CHARACTER):
            self.uncertain = new.rstrip(NO_CHARACTER)
            return ""
        self.uncertain = ""
        if len(self._window) > LONGEST_WINDOW:  # begin another one, with this piece
            self._window = self._window[self._num_old :]
            self._text = self._decode(backend)
        self._num_old, self._old_text = len(self._window), self._text
        return new

    def _decode(self, backend: Tokenizer) -> str:
        return str((self.cleans_up or backend).decode(self._window, skip_special_tokens=True))


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
        self.backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        if tokenizer is not None and self.backend is None:
            raise UserError(f"{type(tokenizer).__name__} has no fast backend; text needs one, token ids do not")
        self.decoder: Any = PieceDecoder(tokenizer)
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
        """The next token. Sets `error` if the tokenizer cannot take it; bytes that make no character are no error."""
        if self.backend is None or self.stopped:
            return
        try:
            new = self.decoder.step(self.backend, token_id)
            # What is not certain may complete a stop string: then the request ends, and nothing can change it any more.
            if any(stop in self.pending + self.decoder.uncertain for stop in self.stop):
                new = self.decoder.uncertain
            self.push_text(new)
        except Exception as error:  # the tokenizers library raises a bare Exception
            self.error = f"no text for token {token_id}: {error}"

    def push_text(self, new: str) -> None:
        """Take the next piece of text. `text` grows by what is certain now; at a stop string, `stopped` is set.

        The text ends right before the stop string, the first one in the text if there are several, and nothing of what
        came after it is kept.
        """
        raise NotImplementedError("ch08 exercise 3: Show only what is certain")

    def finish(self, output_ids: Sequence[int]) -> None:
        """The request has ended: release what was held back; bytes that make no character become the sign for that.

        The last token may be one that was not pushed, such as the end of the sequence. Its text, if it has any, may
        complete a stop string too, and the text ends before that, whatever the request has ended with.
        """
        if self.tokenizer is None or self.stopped or self.error:
            return
        try:
            whole = str(self.tokenizer.decode(list(output_ids), skip_special_tokens=True))
        except Exception as error:  # a tokenizer may raise anything
            self.error = f"no text for the last tokens: {error}"
            whole = ""
        known = self.text + self.pending
        if whole.startswith(known):
            self.push_text(whole[len(known) :])
        self.text += self.pending
        self.pending = ""
