"""Run an engine of chapters 3 and up on the accelerator, a GPU or the simulated one, and measure its decode steps.

All requests are of equal length and there from the start. Measuring begins once each of them has its first token, so
prompts, first calls and the capture of graphs stay outside: what is left is the steady state, in which an engine
spends its life. On the simulated GPU all times are those of the virtual clock.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from toolkit import device
from toolkit.garbage import release_memory, short_collections
from toolkit.timeline import NO_TIMELINE, Recording, steady
from toolkit.workloads import fixed

BLOCK_SIZE = 16
CALLS_PER_TOKEN = 2  # an engine that calls step() more often than this is stuck


@dataclass(frozen=True)
class Load:
    """What is asked of an engine.

    Attributes:
        model: on the GPU; for the simulated one in host memory.
        requests: all run in one batch, if the engine lets them.
        prompt_len, new_tokens: of each request.
    """

    model: PreTrainedModel
    requests: int = 8
    prompt_len: int = 12
    new_tokens: int = 16

    @property
    def prompts(self) -> list[list[int]]:
        items = fixed(self.requests, self.prompt_len, self.new_tokens, vocab_size=self.model.config.vocab_size)
        return [item.prompt_ids for item in items]

    @property
    def limits(self) -> dict[str, Any]:
        """Limits of an engine that serves this load without preempting anybody.

        One block more for each than it needs: the scheduler admits no request if a running request could then get none.
        """
        blocks_each = 1 - (-(self.prompt_len + self.new_tokens) // BLOCK_SIZE)
        return {
            "num_blocks": self.requests * blocks_each,
            "block_size": BLOCK_SIZE,
            "max_rows": self.requests,
            "token_budget": self.requests * self.prompt_len,
        }


@dataclass(frozen=True)
class Served:
    """What an engine did with a load.

    Attributes:
        outputs: new token ids of each request, the whole run.
        seconds, steps, new_tokens: of the measured part, in which every step decodes.
        recording: of the measured part; its numbers leave out a few steps at either end.
        hidden_waits: of the measured part, on the simulated GPU: the times the host waited for the device without
            having asked for it by name (`simgpu.Synchronisation`).
    """

    outputs: list[list[int]]
    seconds: float
    steps: int
    new_tokens: int
    recording: Recording
    hidden_waits: tuple[Any, ...]

    @property
    def ms_per_step(self) -> float:
        return self.seconds * 1e3 / self.steps

    @property
    def tokens_per_second(self) -> float:
        return self.new_tokens / self.seconds

    def wrong_share(self, right: Sequence[Sequence[int]]) -> float:
        """The share of the tokens that differ from the right ones, 0 to 1."""
        pairs = [
            pair for ours, theirs in zip(self.outputs, right, strict=True) for pair in zip(ours, theirs, strict=True)
        ]
        return sum(a != b for a, b in pairs) / len(pairs)


def serve(build: Callable[..., Any], load: Load, policy: str = "eager", costs: Any = None) -> Served:  # noqa: ANN401
    """Run a load to its end on a new engine.

    Args:
        build: a chapter's `build`, or whatever else makes an engine from the same arguments.
        policy: of the simulated GPU, which is reset and collects races (see `simgpu.races`); a real one has none.
        costs: its prices, a `simgpu.Costs`; None for the usual ones.
    """
    if device.is_simulated():
        device.accelerator.reset(policy, on_race="collect", costs=costs)
    from ch02_continuous_batching import SamplingParams

    engine = build(load.model, timeline=NO_TIMELINE, **load.limits)
    params = SamplingParams(max_tokens=load.new_tokens, ignore_eos=True)
    for i, prompt in enumerate(load.prompts):
        engine.add_request(str(i), prompt, params)
    started: set[str] = set()
    last: dict[str, Any] = {}
    calls_left = CALLS_PER_TOKEN * load.requests * (load.prompt_len + load.new_tokens)

    def step() -> Any:  # noqa: ANN401 (a list of outputs, or what stands for one in chapter 9)
        nonlocal calls_left
        calls_left -= 1
        if calls_left < 0:
            raise RuntimeError(
                "the engine does not end: step() is called again and again, and requests stay unfinished"
            )
        outputs = engine.step()
        last.update((output.request_id, output) for output in ended(outputs))
        return outputs

    before = 0
    while len(started) < load.requests:
        for output in step():
            started.add(output.request_id)
            before += len(output.new_token_ids)
    device.accelerator.synchronize()
    timeline = engine.observers.timeline = device.new_timeline()
    waits_before = len(_waits())
    # A batch that is in flight by now was launched before the measurement, so its tokens are not counted either.
    before += sum(len(batch.sampling_rows) for batch, _ in engine.in_flight)
    first_step = engine.num_steps
    with short_collections():
        start = device.now_ms()
        while engine.has_work:
            step()
        device.accelerator.synchronize()
        seconds = (device.now_ms() - start) / 1e3
    recording = steady(timeline.finish())
    outputs = [list(last[str(i)].output_ids) for i in range(load.requests)]
    served = Served(
        outputs,
        seconds,
        engine.num_steps - first_step,
        sum(map(len, outputs)) - before,
        recording,
        tuple(each for each in _waits()[waits_before:] if each.hidden),
    )
    if not device.is_simulated():
        del engine
        release_memory()
    return served


def ended(outputs: Any) -> Sequence[Any]:  # noqa: ANN401
    """Of what a step returns, the requests' last outputs. Chapter 9 knows them without making the others."""
    if hasattr(outputs, "ended"):
        return outputs.ended
    return [output for output in outputs if output.finish_reason is not None]


def _waits() -> list[Any]:
    """What the simulated GPU has written down; a real one writes nothing down."""
    return device.accelerator.synchronisations() if device.is_simulated() else []
