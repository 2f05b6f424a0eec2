"""From what a request brings, text, token ids or a conversation, to the token ids that the engine computes.

Making tokens of a text takes milliseconds for a page and seconds for a book, so it is done in a thread, off the event
loop. A thread alone would not help: the tokenizers library keeps Python's lock (the GIL) while it encodes one text,
so that neither the event loop nor the engine could go on (measured with 1 MB: for 3 s). Its call for a *list* of texts
gives the lock back, so it is called with a list of one.
"""

from typing import Any

from transformers import PreTrainedTokenizerBase

from ch10_serving.api_errors import ApiError
from ch10_serving.wire import ChatRequest, CompletionRequest
from toolkit.checked import shown


class PromptReader:
    """Reads the prompts of requests.

    Args:
        tokenizer: None if the model has none; then only token ids can be read.
        max_length: tokens of a request, prompt and answer together, at most.
        vocab_size: token ids are 0 to vocab_size - 1.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None, max_length: int, vocab_size: int) -> None:
        self.tokenizer, self.max_length, self.vocab_size = tokenizer, max_length, vocab_size

    def read(self, request: CompletionRequest | ChatRequest) -> list[list[int]]:
        """The token ids of each of the request's prompts; to be called in a thread.

        Raises ApiError for what cannot be read, and for a prompt that leaves no room for the answer.
        """
        if isinstance(request, ChatRequest):
            param, prompts = "messages", [self.conversation(request)]
        else:
            param, prompts = "prompt", [self.prompt(each) for each in request.prompt]
        for ids in prompts:
            self.check_length(len(ids), answer_length(request), param)
        return prompts

    def prompt(self, given: str | list[int]) -> list[int]:
        """Token ids are taken as they are; a text gets the special tokens that the model expects at its beginning."""
        if isinstance(given, str):
            return self.encode(given, "prompt", add_special_tokens=True)
        unknown = next((token for token in given if not 0 <= token < self.vocab_size), None)
        if unknown is not None:
            highest = self.vocab_size - 1
            raise ApiError(400, f"prompt: token {shown(unknown)} is none of the model's, 0 to {highest}", "prompt")
        return given

    def conversation(self, request: ChatRequest) -> list[int]:
        """The messages in the model's own chat template, up to where its answer begins."""
        tokenizer: Any = self.tokenizer
        if getattr(tokenizer, "chat_template", None) is None:
            raise ApiError(400, "messages: this model has no chat template; use /v1/completions", "messages")
        messages = [{"role": each.role, "content": each.content} for each in request.messages]
        try:
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # a template is a program, and refuses by raising whatever it likes
            reason = str(error).partition("\n")[0][:200]
            raise ApiError(400, f"messages: the model's chat template refuses them: {reason}", "messages") from None
        return self.encode(text, "messages", add_special_tokens=False)

    def encode(self, text: str, param: str, *, add_special_tokens: bool) -> list[int]:
        if self.tokenizer is None:
            raise ApiError(400, f"{param}: this model has no tokenizer; send token ids to /v1/completions", param)
        backend: Any = self.tokenizer.backend_tokenizer
        try:
            ids = backend.encode_batch([text], add_special_tokens=add_special_tokens)[0].ids
        except Exception:  # such as half of a surrogate pair, which JSON can spell and UTF-8 cannot
            raise ApiError(400, f"{param}: the tokenizer cannot read this text; is it valid Unicode?", param) from None
        if not ids:
            raise ApiError(400, f"{param}: it is empty, and the model needs at least one token", param)
        return list(ids)

    def check_length(self, length: int, wanted: int | None, param: str) -> None:
        room = self.max_length - length
        if room < (wanted or 1):
            raise ApiError(
                400,
                f"{param}: {length} tokens and {wanted or 1} for the answer exceed the context of {self.max_length}; "
                "shorten the prompt or ask for fewer tokens",
                param,
                "context_length_exceeded",
            )


def answer_length(request: CompletionRequest | ChatRequest) -> int | None:
    """How many tokens the request wants at most; None: as many as there is room for."""
    if isinstance(request, ChatRequest) and request.max_completion_tokens is not None:
        return request.max_completion_tokens
    return request.max_tokens
