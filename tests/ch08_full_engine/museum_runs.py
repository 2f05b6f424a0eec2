"""How the museum's engines are run and looked at. They are imported when a test asks for them, each by itself, so that
one that cannot be loaded fails its own tests only."""

from importlib import import_module
from typing import Any

from ch02_continuous_batching import SamplingParams
from tests.helpers import tiny_model
from tests.simulated import (
    MAX_TOKENS,
    PROMPTS,
    STEP_LIMIT,
    Seen,
    assert_no_race,
    expected,
    run_simulated,
    torch_cuda_refused,
)

# The race detector needs one of them; wrong numbers show under the unlucky ones only.
POLICIES = ["eager", "lazy", *(f"random:{seed}" for seed in range(6))]


def exhibit(module: str, name: str = "build") -> Any:
    """Something of an exhibit's module, by default the function that builds its engine."""
    return getattr(import_module(f"ch08_full_engine.museum.{module}"), name)


def engine_on(build: Any, gpu_policy: str = "eager", on_race: str = "collect", **limits: Any) -> Any:
    """A new engine on a fresh simulated GPU, with roomy limits."""
    from toolkit import simgpu

    simgpu.reset(gpu_policy, on_race=on_race)
    return build(tiny_model(), **({"num_blocks": 80, "block_size": 4, "max_rows": 6} | limits))


def add_prompts(engine: Any, count: int = len(PROMPTS), **params: Any) -> None:
    for i, prompt in enumerate(PROMPTS[:count]):
        engine.add_request(str(i), prompt, SamplingParams(**({"max_tokens": MAX_TOKENS} | params)))


def run_on(engine: Any, outputs: dict[str, list[int]] | None = None) -> dict[str, list[int]]:
    """Step until there is no work; request id -> its tokens, added to those in `outputs`."""
    outputs = {} if outputs is None else outputs
    for _ in range(STEP_LIMIT):
        if not engine.has_work:
            return outputs
        with torch_cuda_refused():
            take(engine.step(), outputs)
    raise AssertionError(
        f"after {STEP_LIMIT} steps there is still work: {len(engine.scheduler.waiting)} requests wait, "
        f"{len(engine.scheduler.running)} run, {len(engine.in_flight)} batches are in flight"
    )


def failed(message: str, error: Exception) -> AssertionError:
    """A failure with a message of the test's own, at the line of the learner's file that `error` came through."""
    return AssertionError(message).with_traceback(error.__traceback__)


def take(results: list[Any], outputs: dict[str, list[int]]) -> None:
    for output in results:
        outputs.setdefault(output.request_id, []).extend(output.new_token_ids)


def assert_all_tokens_right(outputs: dict[str, list[int]]) -> None:
    """Each prompt has got what `generate` gives for it; whichever came first."""
    right = {str(i): tokens for i, tokens in enumerate(expected())}
    wrong = [name for name in right if outputs.get(name) != right[name]]
    assert not wrong, (
        f"the tokens of requests {wrong} differ from generate's: request {wrong[0]!r} got {outputs.get(wrong[0])}, "
        f"right is {right[wrong[0]]}"
    )
    assert len(outputs) == len(right), f"{len(right)} requests were added; outputs came for {sorted(outputs)}"


def assert_overlap(seen: Seen, reference: Any, **limits: Any) -> None:
    """The engine has no race, takes hardly more simulated time than the right one it derives from, and waits no more.

    One percent is what separates them: right repairs cost 0.1 % and less, a wait for too much 1.5 % and more.
    """
    assert_no_race(seen)
    right = run_simulated(reference, **limits)
    waits = [*seen.hidden_waits, *(wait for wait in seen.waits if wait not in right.waits)]
    also = f". It waits in: {waits[0]}" if waits else ""
    assert seen.simulated_ms < 1.01 * right.simulated_ms, (
        "the tokens may be right, but host and device no longer overlap as they did: the run takes "
        f"{seen.simulated_ms:.1f} simulated ms, and {right.simulated_ms:.1f} without what this engine adds{also}"
    )
    hidden = seen.hidden_waits
    assert not hidden, f"the host waited for the device {len(hidden)} times without having asked for it{also}"
