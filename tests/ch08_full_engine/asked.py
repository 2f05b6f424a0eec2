"""The requests of random loads, and the right answer to each."""

from collections import Counter
from functools import cache
from typing import Any, NamedTuple

from hypothesis import strategies as st

from ch02_continuous_batching import SamplingParams
from ch02_continuous_batching.build import build as build_ch02
from tests.ch08_full_engine.scripted import text_of
from tests.helpers import VOCABULARY, reference_outputs, shared_reference, tiny_model

_COMMON = [11, 45, 7, 62, 33, 90, 18, 51, 29, 84, 13, 40]
_OWN = [[5], [71, 3], [66, 23, 9], [27, 95, 61, 48, 80], [38, 57, 12, 74, 31, 8, 50]]
PROMPTS = [_COMMON[:common] + own for common in (0, 4, 8, 12) for own in _OWN]
SAMPLING: list[dict[str, Any]] = [
    {},
    {"temperature": 0.9, "seed": 1},
    {"temperature": 0.9, "seed": 2, "top_k": 5},
    {"temperature": 0.9, "seed": 3, "top_p": 0.9},
]
MAX_TOKENS = 13
LONGEST = max(map(len, PROMPTS)) + MAX_TOKENS


@cache
def whole_answers() -> list[list[list[int]]]:
    """For each way of sampling and each prompt all its tokens: greedy ones of `generate`, others of chapter 2."""
    sampled = []
    for sampling in SAMPLING[1:]:
        engine = build_ch02(tiny_model(), num_blocks=400, block_size=4, max_rows=len(PROMPTS), token_budget=400)
        outputs = engine.generate(PROMPTS, SamplingParams(max_tokens=MAX_TOKENS, **sampling))
        sampled.append([[*output.output_ids] for output in outputs])
    return [reference_outputs(shared_reference(), PROMPTS, MAX_TOKENS), *sampled]


@cache
def eos_id() -> int:
    """The token that the greedy answers have most often."""
    return Counter(token for answer in whole_answers()[0] for token in answer).most_common(1)[0][0]


class Asked(NamedTuple):
    """A request of a load; `prompt` and `sampling` are places in the lists above."""

    name: str
    prompt: int
    max_tokens: int
    sampling: int
    ignore_eos: bool
    stop: tuple[str, ...]

    def params(self) -> SamplingParams:
        return SamplingParams(self.max_tokens, ignore_eos=self.ignore_eos, stop=self.stop, **SAMPLING[self.sampling])


def right_answer(asked: Asked) -> list[int]:
    """All the tokens that this request gets, up to its own end."""
    tokens = whole_answers()[asked.sampling][asked.prompt][: asked.max_tokens]
    for end in range(1, len(tokens) + 1):
        text = text_of(token for token in tokens[:end] if token != VOCABULARY - 1)  # that one is special, without text
        ends = tokens[end - 1] == eos_id() and not asked.ignore_eos
        if ends or any(stop in text for stop in asked.stop):
            return tokens[:end]
    return tokens


NAMES = st.sampled_from("abcdefghij")
ASKED = st.builds(
    Asked,
    name=NAMES,
    prompt=st.integers(0, len(PROMPTS) - 1),
    max_tokens=st.integers(1, MAX_TOKENS),
    sampling=st.integers(0, len(SAMPLING) - 1),
    ignore_eos=st.booleans(),
    stop=st.sampled_from([(), (), ("e",), ("k", "a")]),
)
