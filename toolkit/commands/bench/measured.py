"""What a run of an engine gives, and the numbers that are read from it.

Every engine is measured in the same way. A request is due at a certain moment; each of its tokens has the moment at
which the host got to know it. From these alone come the throughput (all tokens, from the first request due to the last
token), the time to first token (from due to first token, waiting in the queue included) and the inter-token latency
(the gaps between a request's tokens). These moments cost an engine a reading of the clock each, so they are taken in
the timed runs themselves.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from toolkit.percentile import percentile


@dataclass(frozen=True)
class Run:
    """One timed run of a case.

    Attributes:
        outputs: new token ids of each request, in the order of the case.
        stamps: for each of these tokens, when the host got to know it, seconds.
        due: when each request was due, seconds of the same clock.
        steps: forwards that the engine counted, prompts included.
        captures: graphs that were captured during the run: an engine that still warms up.
        active: share of the run, prompts included, in which a batch was on the device, by the engine's own metrics and
            without the time in which there was no work; None for an engine that has no such metrics.
        host_ms: of our engine, the host's work for a step, the median of those in which the batch was full and other
            requests waited for a place in it; None if there were none.
    """

    outputs: list[list[int]]
    stamps: list[list[float]]
    due: list[float]
    steps: int
    captures: int = 0
    active: float | None = None
    host_ms: float | None = None

    def __post_init__(self) -> None:
        for number, (output, stamps) in enumerate(zip(self.outputs, self.stamps, strict=True)):
            if len(output) != len(stamps) or not output:
                raise RuntimeError(f"request {number}: {len(output)} tokens and {len(stamps)} moments")

    @property
    def tokens(self) -> int:
        return sum(map(len, self.outputs))

    @property
    def seconds(self) -> float:
        """From the first request due to the last token."""
        return max(stamps[-1] for stamps in self.stamps) - min(self.due)

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.seconds

    @property
    def ttft_ms(self) -> list[float]:
        """Each request's time to first token."""
        return [(stamps[0] - due) * 1e3 for stamps, due in zip(self.stamps, self.due, strict=True)]

    @property
    def itl_ms(self) -> list[float]:
        """The gaps between the tokens of all requests."""
        return [(b - a) * 1e3 for stamps in self.stamps for a, b in zip(stamps, stamps[1:], strict=False)]


@dataclass(frozen=True)
class Activity:
    """How busy the GPU was in a short run of its own, see activity.py; None: could not be measured.

    Attributes:
        gpu_active: share of a steady window in which a batch was on the device, from its first kernel to its last.
        kernel_active: share in which a kernel or copy ran, from the profiler's trace.
        device_ms, host_ms: a step's time on the device, and the host's work for it (of our engine). Where requests join
            and end all the time, the latter is that of the timed runs (`Run.host_ms`).
    """

    gpu_active: float | None = None
    kernel_active: float | None = None
    device_ms: float | None = None
    host_ms: float | None = None


@dataclass
class Measured:
    """All timed runs of one engine on one case."""

    runs: list[Run] = field(default_factory=list)

    @property
    def host_ms(self) -> float | None:
        """The median over the runs, of those that say something of it."""
        seen = [run.host_ms for run in self.runs if run.host_ms is not None]
        return round(median(seen), 4) if seen else None

    def numbers(self, new_tokens: int, equal: bool) -> dict[str, str | int | float | None]:
        """Medians over the runs, and each run's throughput, as part of a row.

        Where all requests are equal, a step gives each of them a token, so a step's time is the run's seconds over
        `new_tokens`, prompts included. Elsewhere the engine's own count of forwards is what there is to divide by.
        """
        runs = self.runs
        active = [run.active for run in runs if run.active is not None]
        steps = [new_tokens if equal else run.steps for run in runs]
        return {
            "tokens": runs[0].tokens,
            "seconds": round(median(run.seconds for run in runs), 4),
            "tokens_per_s": round(median(run.tokens_per_s for run in runs), 2),
            "ms_per_step": round(median(run.seconds * 1e3 / n for run, n in zip(runs, steps, strict=True)), 4),
            "steps": int(median(run.steps for run in runs)),
            "ttft_ms": round(median(median(run.ttft_ms) for run in runs), 3),
            "ttft_p99_ms": round(median(percentile(run.ttft_ms, 0.99) for run in runs), 3),
            "itl_ms": round(median(median(run.itl_ms) for run in runs), 3),
            "itl_p99_ms": round(median(percentile(run.itl_ms, 0.99) for run in runs), 3),
            "rounds": len(runs),
            "tokens_per_s_rounds": " ".join(f"{run.tokens_per_s:.1f}" for run in runs),
            "run_active": round(median(active), 4) if active else None,
            "captures": sum(run.captures for run in runs),
            "outputs": fingerprint(runs[0].outputs),
        }


def fingerprint(outputs: Sequence[Sequence[int]]) -> str:
    """A short name for all tokens of a run: equal tokens, equal name."""
    return hashlib.sha256(repr([list(output) for output in outputs]).encode()).hexdigest()[:12]


def agreement(ours: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]]) -> dict[str, float | None]:
    """How far two engines' greedy tokens agree, as part of a row.

    After its first difference a request goes its own way, so the share says more about when than about how often. With
    random weights in bf16 the two largest scores are often as good as equal, and different kernels choose differently.

    Returns:
        same_tokens: share of the positions with equal tokens; first_difference: the median over the requests that
        differ, in tokens; None if none does.
    """
    pairs = [list(zip(a, b, strict=False)) for a, b in zip(ours, theirs, strict=True)]
    longest = sum(max(len(a), len(b)) for a, b in zip(ours, theirs, strict=True))
    firsts = [next((i for i, (x, y) in enumerate(pair) if x != y), None) for pair in pairs]
    differing = [first for first in firsts if first is not None]
    return {
        "same_tokens": round(sum(x == y for pair in pairs for x, y in pair) / longest, 4),
        "first_difference": float(median(differing)) if differing else None,
    }
