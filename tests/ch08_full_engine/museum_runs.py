"""How the museum's engines are run and looked at. They are imported when a test asks for them, each by itself, so that
one that cannot be loaded fails its own tests only."""

from importlib import import_module
from typing import Any

from ch02_continuous_batching import Request, SamplingParams
from tests.causes import likely
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
from tests.words import counted, work_left

BLOCK_SIZE = 4
# The race detector needs one of them; wrong numbers show under the unlucky ones only.
POLICIES = ["eager", "lazy", *(f"random:{seed}" for seed in range(6))]


def exhibit(module: str, name: str = "build") -> Any:
    """Something of an exhibit's module, by default the function that builds its engine."""
    return getattr(import_module(f"ch08_full_engine.museum.{module}"), name)


def slow_copies() -> Any:
    """Prices of a GPU whose copies take so long that none is through by the time somebody asks, instead of waiting."""
    from toolkit import simgpu

    return simgpu.Costs(copy_ms=20.0)


def engine_on(build: Any, gpu_policy: str = "eager", costs: Any = None, **limits: Any) -> Any:
    """A new engine on a fresh simulated GPU that collects races, with roomy limits."""
    from toolkit import simgpu

    simgpu.reset(gpu_policy, on_race="collect", costs=costs)
    return build(tiny_model(), **({"num_blocks": 80, "block_size": BLOCK_SIZE, "max_rows": 6} | limits))


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
    raise AssertionError(f"after {STEP_LIMIT} steps there is still work: {work_left(engine)}")


def failed(message: str, error: Exception) -> AssertionError:
    """A failure with a message of the test's own, at the line of the learner's file that `error` came through."""
    return AssertionError(message).with_traceback(error.__traceback__)


def in_short(error: Exception) -> str:
    """An error in one line; of a request that is a key, or part of one, its name only."""
    key = error.args[0] if isinstance(error, KeyError) and error.args else None
    parts = key if isinstance(key, tuple) else (key,)
    if not any(isinstance(part, Request) for part in parts):
        return f"{type(error).__name__}: {error}"
    named = [f"request {part.request_id!r}" if isinstance(part, Request) else str(part) for part in parts]
    return f"KeyError: {', '.join(named)}"


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
    longest = longest_new_wait(seen, right)
    also = likely(
        (bool(longest), f". It waits in: {longest}"),
        otherwise=". The host loses time in no other call than before: is a batch launched too late, or does a stream "
        "wait for too much?",
    )
    assert seen.simulated_ms < 1.01 * right.simulated_ms, (
        "the tokens may be right, but host and device no longer overlap as they did: the run takes "
        f"{seen.simulated_ms:.1f} simulated ms, and {right.simulated_ms:.1f} without what this engine adds{also}"
    )
    hidden = seen.hidden_waits
    assert not hidden, (
        f"the host waited for the device {counted(len(hidden), 'time')} without having asked for it. It waits in: "
        f"{hidden[0]}"
    )


def longest_new_wait(seen: Seen, right: Seen) -> str:
    """The call in which the host loses most simulated time, of those in which it does not wait in the right run."""

    def line(wait: Any) -> tuple[str, int]:
        return wait.site.inner or (wait.site.file, wait.site.line)

    allowed = {line(wait) for wait in right.synchronisations}
    lost: dict[str, float] = {}
    for wait in seen.synchronisations:
        if wait.waited_ms > 0 and line(wait) not in allowed:
            call = f"{wait.what} at {wait.site}"
            lost[call] = lost.get(call, 0.0) + wait.waited_ms
    return max(lost, key=lambda call: lost[call], default="")
