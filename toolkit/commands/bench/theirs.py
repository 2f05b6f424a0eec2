"""The transformers library's continuous batching behind the bench's interface. Its settings: `settings`.

One manager serves the warm-up and all rounds, so its graphs are there; `Run.captures` tells whether a timed run
captured all the same. Tokens are timed by the library itself (`record_timestamps`), on its own thread, before they go
through a queue to the caller: so in its favour, if at all.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import count
from typing import Any

import torch
from transformers import GenerationConfig

from toolkit.commands.bench.activity import kernel_share, start_profiler, steady_shares
from toolkit.commands.bench.cases import Case
from toolkit.commands.bench.engine_runner import EngineSpec, Models, NotHere
from toolkit.commands.bench.flash_for_transformers import best_attention
from toolkit.commands.bench.measured import Activity, Run
from toolkit.commands.bench.settings import settings
from toolkit.garbage import release_memory
from toolkit.timeline import Timeline

SHORT_TOKENS = 16
QUIET_SECONDS = 120.0  # without a step: the manager hangs
WATCHED_TOKENS = 384
SETTLE_STEPS, TIMELINE_STEPS, PROFILED_STEPS = 16, 64, 48
POLL_SECONDS = 0.005


class TheirEngine:
    """See `EngineRunner`."""

    def __init__(self, who: EngineSpec, models: Models) -> None:
        self.who = who
        self.models = models
        self.attention = ""
        self.details: dict[str, str] = {}
        self.model: Any = None
        self.manager: Any = None
        self.workload = ""
        self.rows = self.longest = 0

    def prepare(self, case: Case) -> None:
        same = self.manager is not None and (self.workload, self.rows) == (case.workload, case.rows)
        if same and case.longest <= self.longest:
            return  # the warm-up of a longer case has met all sizes of this one
        if self.who.asynchronous and not torch.cuda.is_available():
            raise NotHere("transformers' asynchronous batching needs an NVIDIA GPU")
        self.close()
        logging.getLogger("ContinuousBatchingLogger").setLevel(logging.CRITICAL)  # a failure is reported in one line
        self.model = self.models.get(case.model, changed=False)
        self.best = best_attention(self.model)
        self.attention = self.best.kernel
        greedy = GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0)
        self.manager = self.model.init_continuous_batching(greedy, settings(case, self.who, self.best))
        self.manager.warmup()
        self.workload, self.rows, self.longest = case.workload, case.rows, case.longest
        # Sizes grow until the end of a run, so only a whole one meets them all. The article's would take minutes.
        self.run(replace(case, new_tokens=SHORT_TOKENS) if case.workload == "article" else case)

    def run(self, case: Case) -> Run:
        captured = self.captured
        self.start()
        try:
            due = self.add(case, time.perf_counter())
            results = self.collect(len(case.items))
            steps = self.manager.current_batch
        finally:
            self.stop()
        outputs, stamps = ([getattr(result, name) for result in results] for name in ("generated_tokens", "timestamps"))
        return Run(outputs, stamps, due, steps, self.captured - captured)

    def add(self, case: Case, start: float) -> list[float]:
        """Add each request when it is due. Returns these moments."""
        for number, (item, arrival) in enumerate(zip(case.items, case.arrivals, strict=True)):
            early = start + arrival - time.perf_counter()
            if early > 0:  # requests that are due together are added in one go: even sleep(0) lets the manager begin
                time.sleep(early)
            self.manager.add_request(
                item.prompt_ids,
                request_id=f"{number}",
                max_new_tokens=item.max_tokens,
                record_timestamps=True,
                eos_token_id=sorted(case.eos_ids) or -1,
            )
        return [start + arrival for arrival in case.arrivals]

    def collect(self, count: int) -> list[Any]:
        """The results of all requests, in order; each comes when its request has ended.

        Raises:
            RuntimeError: a request failed, or the manager died or hangs.
        """
        results: dict[int, Any] = {}
        steps, since = -1, time.monotonic()
        while len(results) < count:
            result = self.manager.get_result(timeout=1)
            if result is not None and result.error is not None:
                raise RuntimeError(f"request {result.request_id}: {result.error}")
            if result is not None:
                results[int(result.request_id)] = result
            elif not self.manager.is_running():
                raise RuntimeError("the manager's thread has ended")
            if self.manager.current_batch != steps:
                steps, since = self.manager.current_batch, time.monotonic()
            elif time.monotonic() - since > QUIET_SECONDS:
                raise RuntimeError(f"no step for {QUIET_SECONDS:.0f} s")
        return [results[number] for number in range(count)]

    def start(self) -> None:
        """Start the manager's thread, with the attention that other engines may have switched since."""
        if self.model.config._attn_implementation != self.best.implementation:
            self.model.set_attn_implementation(self.best.implementation)
        self.manager.current_batch = 0
        self.manager.start()
        time.sleep(0.2)  # until the thread waits for requests

    def stop(self) -> None:
        """Stop the thread and keep what was captured. The next start begins with an empty cache."""
        self.manager.stop(block=True, timeout=QUIET_SECONDS, keep_for_next_session=True)
        # The library would hand this manager to every caller that asks for one; here each mode has its own.
        vars(self.model).pop("_cached_continuous_batching_manager", None)

    @property
    def captured(self) -> int:
        """Graphs captured so far; 0 where this release keeps them elsewhere."""
        io = getattr(getattr(self.manager, "batch_processor", None), "inputs_and_outputs", None)
        pairs = [pair.device_io for pair in getattr(io, "io_pairs", [])] or [io]
        return sum(len(getattr(getattr(pair, "graphs", None), "_storage", ())) for pair in pairs)

    def activity(self, case: Case) -> Activity:
        """All rows decode in the manager's thread: some steps under the timeline, then some under the profiler."""
        tokens = min(WATCHED_TOKENS, case.new_tokens)
        case = replace(case, workload="equal", new_tokens=tokens)

        def wait_steps(steps: int) -> None:
            until = min(self.manager.current_batch + steps, tokens - 1)
            while self.manager.is_running() and self.manager.current_batch < until:
                time.sleep(POLL_SECONDS)

        start_profiler()
        self.start()
        try:
            self.add(case, time.perf_counter())
            wait_steps(SETTLE_STEPS)
            with self.marked_forwards() as timeline:
                wait_steps(TIMELINE_STEPS)
            wait_steps(2)  # until the last one that was marked is launched
            seen = steady_shares(timeline.finish())
            kernels = kernel_share(lambda: wait_steps(PROFILED_STEPS))
            if self.manager.current_batch >= tokens - 1:
                raise RuntimeError("the requests ended while the GPU was watched")
            self.collect(len(case.items))
        finally:
            self.stop()
        return replace(seen, host_ms=None, kernel_active=kernels)

    @contextmanager
    def marked_forwards(self) -> Iterator[Timeline]:
        """While this lasts, the manager's forwards stand between markers on their stream, as our engine's do.

        It launches a forward, graph or not, in one function, behind its stream's waiting for the inputs.
        """
        processor = self.manager.batch_processor
        launch, numbers, timeline = processor.model_runner.compute_batch, count(), Timeline(self.model.device)

        def marked(*arguments: object) -> None:
            stream = processor.inputs_and_outputs.compute_stream
            with torch.cuda.stream(stream) if stream else nullcontext(), timeline.device("forward", step=next(numbers)):
                launch(*arguments)

        processor.model_runner.compute_batch = marked
        try:
            yield timeline
        finally:
            del processor.model_runner.compute_batch

    def close(self) -> None:
        if self.manager is not None:
            self.manager.destroy()
            self.manager = self.model = None
            release_memory()
