"""The entrance of the engine: what a caller hands over is converted, checked and copied here, and never read again.

Whatever gets past the entrance shares its steps with the requests of other callers. A token id that is a float, or one
that the model does not have, would fail in the middle of a step and take them with it; and a prompt that its caller
changes later, after it was checked, is as good as one that was never checked.
"""

import itertools
import operator
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ch02_continuous_batching.config import EngineConfig
from ch02_continuous_batching.request import SamplingParams
from toolkit.checked import INT64_MAX, shown, whole_number
from toolkit.errors import UserError
from toolkit.models.supported import served_length


@dataclass(frozen=True)
class Entrance:
    """What can be served at all.

    Attributes:
        config: for the size of the KV cache.
        max_length: tokens of a request, prompt and output together, at most.
        vocab_size: token ids are 0 to vocab_size - 1. On a GPU any other is an address outside the embedding: it would
            end the process, not the request.
        has_tokenizer: without one there are no stop strings.
    """

    config: EngineConfig
    max_length: int
    vocab_size: int
    has_tokenizer: bool

    @classmethod
    def of(
        cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, limits: Mapping[str, Any]
    ) -> "Entrance":
        """The entrance of an engine for this model.

        Args:
            limits: the fields of EngineConfig, by name.

        Raises:
            UserError: a limit makes no sense, the KV cache cannot fit, or the model is of a kind that would be served
                wrong.
        """
        config = EngineConfig.of(limits)
        max_length = served_length(model, config.max_length)
        config.check_memory(model, max_length)
        return cls(config, max_length, model.config.vocab_size, tokenizer is not None)

    def check(
        self, request_id: str, prompt_ids: Iterable[int], params: SamplingParams, in_use: Container[str]
    ) -> list[int]:
        """The prompt as a list of its own, of Python's ints.

        Args:
            request_id: a string that is not `in_use`.
            prompt_ids: whole numbers in a list, tuple, range, array, tensor, or whatever else yields them.

        Raises:
            UserError: the request can never be served, or has the name of another one.
        """
        if not isinstance(request_id, str):
            raise UserError(f"a request's name is a string; this one is {shown(request_id)}")
        if request_id in in_use:
            raise UserError(f"request {request_id}: this name is in use; take another one, or wait for its end")
        # By its name, for a notebook in which this file was edited and loaded again has two classes of it.
        if type(params).__name__ != SamplingParams.__name__:
            raise UserError(f"request {request_id}: params is {shown(params)}; make it with SamplingParams(...)")
        try:
            prompt = self._token_ids(prompt_ids)
            self._check_length(len(prompt), params.max_tokens)
        except UserError as error:
            raise UserError(f"request {request_id}: {error}") from None
        if params.stop and not self.has_tokenizer:
            raise UserError(f"request {request_id}: stop strings need a tokenizer, and the engine was given none")
        return prompt

    def _token_ids(self, prompt_ids: Iterable[int]) -> list[int]:
        if isinstance(prompt_ids, str | bytes | bytearray | Mapping | set | frozenset):
            raise UserError(f"the prompt is {shown(prompt_ids)}; it is a list of token ids, as a tokenizer makes it")
        try:
            # No more than could be served, since an iterator may never end.
            given = list(itertools.islice(prompt_ids, self.max_length + 1))
        except Exception as error:  # what cannot be iterated over, or raises while it is
            kind = type(error).__name__
            raise UserError(f"the prompt is {shown(prompt_ids)}, which yields no token ids ({kind})") from None
        advice = "a prompt is a list of token ids, as the model's own tokenizer makes it"
        try:
            tokens = list(map(operator.index, given))
        except Exception:  # a TypeError, or whatever an object of the caller's raises: look for the first that does
            tokens = [whole_number("a token of the prompt", token, 0, INT64_MAX, advice) for token in given]
        unknown = next((token for token in tokens if not 0 <= token < self.vocab_size), None)
        if unknown is not None:
            raise UserError(f"token {shown(unknown)} is none of the model's 0 to {self.vocab_size - 1}; {advice}")
        return tokens

    def _check_length(self, prompt_length: int, max_tokens: int) -> None:
        if prompt_length == 0:
            raise UserError("the prompt has no tokens; give it at least one")
        if prompt_length > self.max_length:
            raise UserError(f"more than {self.max_length} prompt tokens exceed the context of {self.max_length}")
        needs = f"{prompt_length} prompt tokens and {max_tokens} new ones"
        if prompt_length + max_tokens > self.max_length:
            raise UserError(f"{needs} exceed the context of {self.max_length}; shorten one of them")
        pool = self.config.num_blocks * self.config.block_size
        if prompt_length + max_tokens > pool:
            raise UserError(f"{needs} can never fit the KV cache of {pool} tokens; shorten it or add blocks")
