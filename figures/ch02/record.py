"""Chapter 2's measurements: static against continuous batching, what is left of the gaps, and the token budget."""

import time

import torch
from transformers import PreTrainedModel

from figures.ch01.record import serve as serve_static
from figures.serving import REPEATS, Runner, Size, measure_run, medians, open_model, warm_up, workloads
from toolkit.course import current, use
from toolkit.recordings import Row
from toolkit.timeline import NO_TIMELINE, NoTimeline, Timeline
from toolkit.workloads import WorkloadItem, fixed

BLOCK_SIZE = 16


def record(device: torch.device) -> dict[str, list[Row]]:
    if current() is None:
        use("solutions")
    size, model = open_model(device)
    return {
        "ch02_spread": spread(model, size, device),
        "ch02_budget": budget(model, size),
        "ch02_steps": steps(model, size, device),
    }


def serve(
    model: PreTrainedModel,
    max_rows: int,
    workload: list[WorkloadItem],
    timeline: Timeline | NoTimeline = NO_TIMELINE,
    token_budget: int = 4096,
    policy: str = "fcfs",
) -> tuple[int, dict[int, list[float]]]:
    """Run a workload through the continuous engine.

    Returns:
        the number of steps, and for each request the times at which its tokens came, in seconds. The first of them is
        the time of the step at which it arrived.
    """
    from ch02_continuous_batching import SamplingParams
    from ch02_continuous_batching.build import build

    longest = max(len(item.prompt_ids) + item.max_tokens for item in workload)
    engine = build(
        model,
        num_blocks=max_rows * (1 + -(-longest // BLOCK_SIZE)),  # so many that no request waits for blocks
        block_size=BLOCK_SIZE,
        max_rows=max_rows,
        token_budget=token_budget,
        policy=policy,
        timeline=timeline,
    )
    to_come = list(enumerate(workload))
    times: dict[int, list[float]] = {}
    while to_come or engine.has_work:
        while to_come and to_come[0][1].arrival_step <= engine.num_steps:
            i, item = to_come.pop(0)
            engine.add_request(str(i), item.prompt_ids, SamplingParams(max_tokens=item.max_tokens, ignore_eos=True))
            times[i] = [time.perf_counter()]
        for output in engine.step():
            times[int(output.request_id)].append(time.perf_counter())
    return engine.num_steps, times


def spread(model: PreTrainedModel, size: Size, device: torch.device) -> list[Row]:
    """Both kinds of batching on workloads of equal and of unequal lengths, taking turns."""
    runners: dict[str, Runner] = {
        "static": lambda items, timeline: serve_static(model, size.rows, items, timeline)[0],
        "continuous": lambda items, timeline: serve(model, size.rows, items, timeline)[0],
    }
    for run in runners.values():
        warm_up(run, model.config.vocab_size, device)
    rows: list[Row] = []
    for name, workload in workloads(size, model.config.vocab_size).items():
        runs: dict[str, list[dict[str, float]]] = {batching: [] for batching in runners}
        for _ in range(REPEATS):
            for batching, run in runners.items():
                runs[batching].append(measure_run(run, workload, device))
        total = sum(item.max_tokens for item in workload)
        for batching, seen in runs.items():
            head: Row = {"lengths": name, "batching": batching, "rows": size.rows, "new_tokens": total}
            rows.append({**head, **medians(seen)})
    return rows


def budget(model: PreTrainedModel, size: Size) -> list[Row]:
    """Some requests are being served when a long prompt arrives. How long do they wait for their next token?

    The largest budget takes the prompt in one piece.
    """
    vocabulary, decoding = model.config.vocab_size, size.rows - 1
    budgets = [size.long_prompt // 2**i for i in (4, 3, 2, 1)] + [2 * size.long_prompt]
    served = fixed(decoding, 16, 40, vocab_size=vocabulary)
    long_prompt = fixed(1, size.long_prompt, 2, vocab_size=vocabulary, seed=1)[0]
    workload = [*served, WorkloadItem(long_prompt.prompt_ids, 2, arrival_step=8)]
    serve(model, size.rows, workload, token_budget=budgets[0])
    rows: list[Row] = []
    for tokens in budgets:
        for policy in ("fcfs", "prefill_first"):
            num_steps, times = serve(model, size.rows, workload, token_budget=tokens, policy=policy)
            gaps = [b - a for i in range(decoding) for a, b in zip(times[i][1:], times[i][2:], strict=False)]
            rows.append(
                {
                    "token_budget": tokens,
                    "policy": policy,
                    "long_prompt": size.long_prompt,
                    "decoding_requests": decoding,
                    "steps": num_steps,
                    "longest_gap_ms": round(max(gaps) * 1e3, 3),
                    "median_gap_ms": round(sorted(gaps)[len(gaps) // 2] * 1e3, 3),
                    "first_token_ms": round((times[decoding][1] - times[decoding][0]) * 1e3, 3),
                }
            )
    return rows


def steps(model: PreTrainedModel, size: Size, device: torch.device) -> list[Row]:
    """A few steps: requests decode, and at step 3 another one joins with its whole prompt."""
    vocabulary = model.config.vocab_size
    workload = fixed(size.rows - 1, 24, 9, vocab_size=vocabulary)
    newcomer = fixed(1, 24, 4, vocab_size=vocabulary, seed=1)[0]
    workload = [*workload, WorkloadItem(newcomer.prompt_ids, newcomer.max_tokens, arrival_step=3)]
    serve(model, size.rows, workload)
    timeline = Timeline(device)
    serve(model, size.rows, workload, timeline)
    return list(timeline.finish().rows())
