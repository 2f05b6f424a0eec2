"""Chapter 1's measurements: what a static padded batch computes for nothing, and when the device has nothing to do."""

import torch
from transformers import PreTrainedModel

from figures.serving import REPEATS, Runner, Size, measure_run, medians, open_model, warm_up, workloads
from toolkit.course import current, use
from toolkit.recordings import Row
from toolkit.timeline import NO_TIMELINE, NoTimeline, Timeline
from toolkit.workloads import WorkloadItem, ragged

WORKLOAD = "1 to twice the average"
DECODE_STEPS = 8


def record(device: torch.device) -> dict[str, list[Row]]:
    if current() is None:
        use("solutions")
    size, model = open_model(device)
    workload = workloads(size, model.config.vocab_size)[WORKLOAD]
    return {
        "ch01_batch": batch(ragged(8, (8, 40), (1, 32), vocab_size=2)),
        "ch01_batch_sizes": batch_sizes(model, size, workload, device),
        "ch01_steps": steps(model, workload[:8], device),
    }


def serve(
    model: PreTrainedModel, batch_size: int, workload: list[WorkloadItem], timeline: Timeline | NoTimeline
) -> tuple[int, float]:
    """Run a workload through the naive engine. Returns its number of steps and its padding share."""
    from ch01_naive_loop import NaiveEngine

    model.set_attn_implementation("sdpa")
    engine = NaiveEngine(model, batch_size, timeline)
    engine.generate([item.prompt_ids for item in workload], [item.max_tokens for item in workload], ignore_eos=True)
    return engine.num_steps, engine.padding_share


def batch(workload: list[WorkloadItem]) -> list[Row]:
    """What the positions of one static batch are: no measurement, it follows from the lengths.

    A request's last new token is never computed itself: it is only sampled.
    """
    longest = max(len(item.prompt_ids) for item in workload)
    most = max(item.max_tokens for item in workload)
    return [
        {
            "row": i,
            "padding": longest - len(item.prompt_ids),
            "prompt": len(item.prompt_ids),
            "wanted": item.max_tokens - 1,
            "thrown_away": most - item.max_tokens,
        }
        for i, item in enumerate(workload)
    ]


def batch_sizes(model: PreTrainedModel, size: Size, workload: list[WorkloadItem], device: torch.device) -> list[Row]:
    """The same workload in batches of different sizes; the sizes take turns, so that a slow minute hits them all."""
    choices = [2**i for i in range(size.requests.bit_length())]  # 1, 2, 4, ... up to all of them
    shares: dict[int, float] = {}

    def runner(batch_size: int) -> Runner:
        def run(items: list[WorkloadItem], timeline: Timeline) -> int:
            num_steps, shares[batch_size] = serve(model, batch_size, items, timeline)
            return num_steps

        return run

    warm_up(runner(2), model.config.vocab_size, device)
    runs: dict[int, list[dict[str, float]]] = {choice: [] for choice in choices}
    for _ in range(REPEATS):
        for choice in choices:
            runs[choice].append(measure_run(runner(choice), workload, device))
    return [
        {"batch_size": choice, "requests": size.requests, "padding_share": round(shares[choice], 4), **medians(seen)}
        for choice, seen in runs.items()
    ]


def steps(model: PreTrainedModel, workload: list[WorkloadItem], device: torch.device) -> list[Row]:
    """Prefill and a few decode steps of one batch."""
    workload = [WorkloadItem(item.prompt_ids, 1 + DECODE_STEPS) for item in workload]
    serve(model, len(workload), workload, NO_TIMELINE)
    timeline = Timeline(device)
    serve(model, len(workload), workload, timeline)
    return list(timeline.finish().rows())
