"""Running an engine of chapters 3 to 5 on the simulated GPU, and looking at what it did."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch

from ch02_continuous_batching import SamplingParams
from tests.helpers import random_prompts, reference_outputs, shared_reference, tiny_model, torch_cuda_refused
from tests.words import counted, work_left
from toolkit.timeline import Recording

POLICIES = ["eager", "lazy", "threads", *(f"random:{seed}" for seed in range(20))]
PROMPTS = random_prompts(9, seed=3, shortest=2, longest=14)
MAX_TOKENS = 8
STEP_LIMIT = 400  # far more than any engine needs: a loop that never ends becomes a failing test

needs_simulator = pytest.mark.skipif(
    torch.cuda.is_available(), reason="the simulated GPU is never registered in a process that can use CUDA"
)


@cache
def expected() -> list[list[int]]:
    """What the library's own `generate` gives for PROMPTS."""
    return reference_outputs(shared_reference(), PROMPTS, MAX_TOKENS)


@dataclass(frozen=True)
class Seen:
    """What a run on the simulated GPU did.

    Attributes:
        outputs: tokens per prompt.
        races: the reports of the race detector, as texts.
        waits: the calls in which the host waited for the device while the engine ran, as texts "what at file:line".
        hidden_waits: those of them that were not asked for by name.
        synchronisations: the same waits as the simulator lists them.
        recording: the simulated timeline, one span per phase and step.
        simulated_ms: from the first step to the last.
    """

    outputs: list[list[int]]
    races: list[str]
    waits: list[str]
    hidden_waits: list[str]
    synchronisations: list[Any]
    recording: Recording
    simulated_ms: float


def run_simulated(
    build: Any, gpu_policy: str = "eager", on_race: str = "collect", costs: Any = None, **limits: Any
) -> Seen:
    """Run PROMPTS through an engine on the simulated GPU, greedy, at most STEP_LIMIT steps.

    Args:
        build: a chapter's `build`, or whatever else makes an engine of the same arguments.
        gpu_policy, on_race, costs: see toolkit.simgpu.reset.
        limits: the fields of EngineConfig, by name.
    """
    from toolkit import simgpu
    from toolkit.device import new_timeline

    simgpu.reset(gpu_policy, on_race=on_race, costs=costs)
    timeline = new_timeline()
    limits = {"block_size": 4, "num_blocks": 80, "max_rows": 6, "token_budget": 32} | limits
    with torch_cuda_refused():
        engine = build(tiny_model(), timeline=timeline, **limits)
    for i, prompt in enumerate(PROMPTS):
        engine.add_request(str(i), prompt, SamplingParams(max_tokens=MAX_TOKENS))
    before = len(simgpu.synchronisations())
    start = simgpu.now_ms()
    outputs: list[list[int]] = [[] for _ in PROMPTS]
    with torch_cuda_refused():
        for _ in range(STEP_LIMIT):
            if not engine.has_work:
                break
            for output in engine.step():
                outputs[int(output.request_id)] += output.new_token_ids
    waits = simgpu.synchronisations()[before:]
    end = simgpu.now_ms()
    assert not engine.has_work, f"after {STEP_LIMIT} steps there is still work: {work_left(engine)}"
    return Seen(
        outputs=outputs,
        races=[str(race) for race in simgpu.races()],
        waits=[f"{wait.what} at {wait.site}" for wait in waits],
        hidden_waits=[f"{wait.what} at {wait.site}" for wait in waits if wait.hidden],
        synchronisations=waits,
        recording=timeline.finish(),
        simulated_ms=end - start,
    )


def assert_no_race(seen: Seen) -> None:
    assert not seen.races, f"{counted(len(seen.races), 'race')}; the first one:\n{seen.races[0]}"


def assert_tokens_right(seen: Seen, gpu_policy: str) -> None:
    assert seen.outputs == expected(), f"under the policy {gpu_policy!r} the tokens differ from generate's; " + (
        f"the first of {counted(len(seen.races), 'race')}:\n{seen.races[0]}" if seen.races else "and no race was found"
    )


def overlap_ms(recording: Recording, host_names: tuple[str, ...]) -> float:
    """Simulated time in which the host did work of these names while the device computed."""
    forwards = recording.intervals("compute")
    work = [(s.start, s.end) for s in recording.spans if s.lane == "host" and s.name in host_names]
    return 1e3 * sum(max(0.0, min(e, b) - max(s, a)) for s, e in work for a, b in forwards)
