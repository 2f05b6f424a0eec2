"""Every engine of the course behind one function, so that `make run` and the recordings can treat them alike.

A new chapter adds an entry to ENGINES; its module is imported by its bare name, so COURSE_CODE decides whose it is.
"""

import importlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from toolkit import device
from toolkit.models import LoadedModel
from toolkit.timeline import NO_TIMELINE, NoTimeline, Recording, Timeline

MAX_ROWS = 16  # the same for every engine, so that they are compared at the same batch size
BLOCK_SIZE = 16

OnTokens = Callable[[int], object]
Prompts = Sequence[list[int]]
AnyTimeline = Timeline | NoTimeline
Build = Callable[..., Any]


@dataclass(frozen=True)
class Run:
    """What one engine did with a list of prompts.

    Attributes:
        outputs: new token ids, one list per prompt.
        seconds: wall-clock time, model loading and warm-up excluded.
        steps: number of forwards.
        padding_share: computed token positions that no request needed, 0 to 1.
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
        module, build: where the function is that builds the engine, and its name; of two chapters it is a class.
        streams: whether it runs on the accelerator's streams (from chapter 3 on); without a GPU, on the simulated one.
        wrong_by_design: its tokens are not to be believed.
    """

    name: str
    module: str
    build: str = "build"
    streams: bool = False
    wrong_by_design: bool = False


ENGINES = [
    EngineEntry("ch01 naive loop", "ch01_naive_loop", "NaiveEngine"),
    EngineEntry("ch02 continuous batching", "ch02_continuous_batching.build"),
    EngineEntry("ch03 streams", "ch03_streams.build", streams=True, wrong_by_design=True),
    EngineEntry("ch04 events", "ch04_events.build", streams=True),
    EngineEntry("ch05 double buffering", "ch05_double_buffering.build", streams=True),
    # Not ch06: its graphs have the full width of the block table, which takes minutes where the GPU is simulated.
    EngineEntry("ch07 carry-over", "ch07_carry_over.build", streams=True),
    EngineEntry("ch08 full engine", "ch08_full_engine", "FullEngine", streams=True),
    EngineEntry("ch09 persistent batch", "ch09_persistent_batch", "PersistentEngine", streams=True),
]


def run_naive(
    build: Build,
    loaded: LoadedModel,
    prompts: Prompts,
    max_tokens: int,
    timeline: AnyTimeline,
    on_tokens: OnTokens,
) -> tuple[list[list[int]], int, float]:
    """Chapter 1's engine: static padded batches over the model's ordinary cache."""
    loaded.model.set_attn_implementation("sdpa")
    engine = build(loaded.model, MAX_ROWS, timeline, on_tokens)
    outputs = engine.generate(prompts, [max_tokens] * len(prompts), ignore_eos=True)
    return outputs, engine.num_steps, engine.padding_share


def run_steps(
    build: Build,
    loaded: LoadedModel,
    prompts: Prompts,
    max_tokens: int,
    timeline: AnyTimeline,
    on_tokens: OnTokens,
) -> tuple[list[list[int]], int, float]:
    """Any later engine: add the requests, then step until all are finished. Packed rows, so no padding."""
    from ch02_continuous_batching import SamplingParams

    longest = max(len(prompt) for prompt in prompts) + max_tokens
    engine = build(
        loaded.model,
        loaded.tokenizer,
        timeline,
        num_blocks=MAX_ROWS * (longest // BLOCK_SIZE + 1),
        block_size=BLOCK_SIZE,
        max_rows=MAX_ROWS,
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


def measure(entry: EngineEntry, loaded: LoadedModel, prompts: Prompts, max_tokens: int, on_tokens: OnTokens) -> Run:
    """Run one engine on all prompts, greedy, exactly `max_tokens` new tokens each, after a short warm-up.

    On the simulated GPU the policy is "threads", so that copies and forwards really overlap, races are counted but not
    raised, and the recording is that of the virtual clock.
    """
    build: Build = getattr(importlib.import_module(entry.module), entry.build)
    run = run_naive if entry.module == "ch01_naive_loop" else run_steps
    simulated = entry.streams and device.is_simulated()
    if simulated:
        from toolkit import simgpu

        simgpu.reset("threads", on_race="collect")
    # On a GPU every kernel is loaded at its first use, so the warm-up has to see all kinds of batches.
    warm_up = prompts if loaded.model.device.type == "cuda" else prompts[:1]
    run(build, loaded, warm_up, min(max_tokens, 2), NO_TIMELINE, lambda count: None)
    timeline = device.new_timeline() if simulated else Timeline(loaded.model.device)
    start = time.perf_counter()
    outputs, steps, padding_share = run(build, loaded, prompts, max_tokens, timeline, on_tokens)
    recording = timeline.finish()
    return Run(outputs, time.perf_counter() - start, steps, padding_share, recording)
