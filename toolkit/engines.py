"""Every engine of the course behind one function, so that `make run` and the recordings can treat them alike.

A new chapter adds an entry to ENGINES and, where its engine is built differently, a function like the two below.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from toolkit import course
from toolkit.models import LoadedModel
from toolkit.timeline import NO_TIMELINE, NoTimeline, Recording, Timeline

MAX_ROWS = 16  # the same for every engine, so that they are compared at the same batch size
BLOCK_SIZE = 16

OnTokens = Callable[[int], object]


@dataclass(frozen=True)
class Run:
    """What one engine did with a list of prompts.

    Attributes:
        outputs: new token ids, one list per prompt.
        seconds: wall-clock time, model loading and warm-up excluded.
        steps: number of forwards.
        padding_share: computed token positions that nobody needed, 0 to 1.
        recording: what host and device did when.
    """

    outputs: list[list[int]]
    seconds: float
    steps: int
    padding_share: float
    recording: Recording

    @property
    def tokens_per_second(self) -> float:
        return sum(len(output) for output in self.outputs) / self.seconds


@dataclass(frozen=True)
class EngineEntry:
    """An engine of a chapter.

    Attributes:
        name: as shown to the user; also the name of its timeline picture.
        run: (model, prompts, max_tokens, timeline, on_tokens) -> (outputs, steps, padding share).
    """

    name: str
    run: Callable[
        [LoadedModel, Sequence[list[int]], int, Timeline | NoTimeline, OnTokens], tuple[list[list[int]], int, float]
    ]


def run_naive(
    loaded: LoadedModel,
    prompts: Sequence[list[int]],
    max_tokens: int,
    timeline: Timeline | NoTimeline,
    on_tokens: OnTokens,
) -> tuple[list[list[int]], int, float]:
    """Chapter 1: static padded batches over the model's ordinary cache."""
    from ch01_naive_loop import NaiveEngine

    loaded.model.set_attn_implementation("sdpa")
    engine = NaiveEngine(loaded.model, MAX_ROWS, timeline, on_tokens)
    outputs = engine.generate(prompts, [max_tokens] * len(prompts), ignore_eos=True)
    return outputs, engine.num_steps, engine.padding_share


def run_continuous(
    loaded: LoadedModel,
    prompts: Sequence[list[int]],
    max_tokens: int,
    timeline: Timeline | NoTimeline,
    on_tokens: OnTokens,
) -> tuple[list[list[int]], int, float]:
    """Chapter 2: continuous batching over the paged cache, packed rows, no padding."""
    from ch02_continuous_batching import Engine, SamplingParams

    longest = max(len(prompt) for prompt in prompts) + max_tokens
    engine = Engine(
        loaded.model,
        loaded.tokenizer,
        num_blocks=MAX_ROWS * (longest // BLOCK_SIZE + 1),
        block_size=BLOCK_SIZE,
        max_rows=MAX_ROWS,
        timeline=timeline,
    )
    params = SamplingParams(max_tokens=max_tokens, ignore_eos=True)
    for i, prompt in enumerate(prompts):
        engine.add_request(str(i), prompt, params)
    outputs: list[list[int]] = [[] for _ in prompts]
    while engine.has_work:
        for output in engine.step():
            outputs[int(output.request_id)] += output.new_token_ids
            on_tokens(len(output.new_token_ids))
    return outputs, engine.num_steps, 0.0


ENGINES = [
    EngineEntry("ch01 naive loop", run_naive),
    EngineEntry("ch02 continuous batching", run_continuous),
]


def measure(
    entry: EngineEntry, loaded: LoadedModel, prompts: Sequence[list[int]], max_tokens: int, on_tokens: OnTokens
) -> Run:
    """Run one engine on all prompts, greedy, exactly `max_tokens` new tokens each, after a short warm-up."""
    if course.current() is None:
        course.use("solutions")
    entry.run(loaded, prompts[:1], min(max_tokens, 2), NO_TIMELINE, lambda count: None)
    timeline = Timeline(loaded.model.device)
    start = time.perf_counter()
    outputs, steps, padding_share = entry.run(loaded, prompts, max_tokens, timeline, on_tokens)
    recording = timeline.finish()
    return Run(outputs, time.perf_counter() - start, steps, padding_share, recording)
