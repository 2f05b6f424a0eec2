"""Chapter 8's measurements: from cold start to drain with a cancel in between, and what shared prefixes are worth."""

from typing import Any

import torch

from figures.accelerated import clock, open_load, recorded_on
from toolkit import device
from toolkit.commands.decoding import BLOCK_SIZE, Load
from toolkit.course import use
from toolkit.garbage import release_memory
from toolkit.recordings import Row

__all__ = ["record", "recorded_on"]

# So many requests begin with so many common tokens, and each has a few of its own. All come at once.
REQUESTS, OWN_TOKENS, NEW_TOKENS, BUDGET = 16, 8, 16, 64
COMMON_TOKENS = (0, 64, 320)
LONGEST = max(COMMON_TOKENS) + OWN_TOKENS + NEW_TOKENS
PHASES_TOKENS = 6


def record(chosen: torch.device) -> dict[str, list[Row]]:
    use("solutions")
    load = open_load(requests=REQUESTS, new_tokens=LONGEST)
    return {"ch08_phases": phases(load), "ch08_prefix": prefixes(load)}


def new_engine(load: Load, **options: Any) -> Any:  # noqa: ANN401
    if device.is_simulated():
        device.accelerator.reset("eager", on_race="raise")
    from ch08_full_engine import FullEngine

    return FullEngine(load.model, **options)


def phases(load: Load) -> list[Row]:
    """Three requests from the first step to the last, one of them cancelled in flight: spans of a timeline."""
    from ch02_continuous_batching import SamplingParams

    engine = new_engine(load, **load.limits)
    params = SamplingParams(max_tokens=PHASES_TOKENS, ignore_eos=True)
    for warm in (True, False):
        for i, prompt in enumerate(load.prompts[:3]):
            engine.add_request(str(i), prompt, params)
        if warm:
            while engine.has_work:
                engine.step()
            continue
        device.accelerator.synchronize()
        engine.observers.timeline, first = device.new_timeline(), engine.num_steps
        while engine.has_work:
            if engine.num_steps == first + 3:
                engine.cancel("1")
            engine.step()
    return list(engine.observers.timeline.finish().rows())


def prefixes(load: Load) -> list[Row]:
    """Time to the first token of requests with a common beginning, with and without sharing."""
    if not device.is_simulated():
        first_tokens(load, 0, sharing=False)  # warm-up
    return [first_tokens(load, common, sharing) for common in COMMON_TOKENS for sharing in (False, True)]


def first_tokens(load: Load, common: int, sharing: bool) -> Row:
    """One run: until the first and the last of the requests have their first token, and until all have ended."""
    from ch02_continuous_batching import SamplingParams

    vocabulary = load.model.config.vocab_size
    beginning = [3 + 7 * i % (vocabulary - 3) for i in range(common)]
    prompts = [
        beginning + [3 + (OWN_TOKENS * i + j) % (vocabulary - 3) for j in range(OWN_TOKENS)] for i in range(REQUESTS)
    ]
    blocks_each = 1 - (-(common + OWN_TOKENS + NEW_TOKENS) // BLOCK_SIZE)
    limits = {"num_blocks": REQUESTS * blocks_each, "block_size": BLOCK_SIZE, "max_rows": REQUESTS}
    engine = new_engine(load, **limits, token_budget=BUDGET, prefix_sharing=sharing)
    params = SamplingParams(max_tokens=NEW_TOKENS, ignore_eos=True)
    start = device.now_ms()
    for i, prompt in enumerate(prompts):
        engine.add_request(str(i), prompt, params)
    while engine.has_work:
        engine.step()
    row: Row = {
        "common_tokens": common,
        "requests": REQUESTS,
        "token_budget": BUDGET,
        "prefix_sharing": sharing,
        "first_of_all_ms": round(min(engine.metrics.first_token_ms), 3),
        "last_of_all_ms": round(max(engine.metrics.first_token_ms), 3),
        "all_ms": round(device.now_ms() - start, 3),
        "steps": engine.num_steps,
        "shared_tokens": engine.metrics.shared_tokens,
        "clock": clock(),
    }
    del engine
    release_memory()
    return row
