"""The transformers library's continuous batching as a contestant.

Its settings are the quickest that its code offers (read in releases 5.17 and 5.23):
- the best attention kernel to be had (`flash_for_transformers`), and CUDA graphs wherever it needs no mask;
- padded sizes. A graph is captured for every pair of padded query tokens and padded cached tokens, at its first use.
  Small intervals compute less padding, large ones capture less. Equal requests get small ones: their sizes repeat from
  run to run. A ragged load meets ever new sizes, and capturing is what would cost most: the library's own ones;
- memory for every request, so that it never has to preempt, and no prefix cache: the prompts have nothing in common.

One manager serves the warm-up and all rounds, so its graphs are there; `Run.captures` tells whether a timed run
captured all the same. Tokens are timed by the library itself (`record_timestamps`), on its own thread, before they go
through a queue to the caller: so in its favour, if at all.
"""

import gc
import logging
import time
from dataclasses import replace
from inspect import signature
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.generation.configuration_utils import CompileConfig, ContinuousBatchingConfig

from toolkit.bench.activity import kernel_share, start_profiler
from toolkit.bench.cases import TOKEN_BUDGET, Case
from toolkit.bench.contestant import Contender, Models, NotHere, release_memory
from toolkit.bench.flash_for_transformers import best_attention
from toolkit.bench.measured import Activity, Run

PAGE = 256  # tokens; what its kernels with a block table need
KV_INTERVAL = {"equal": 4096, "article": 32768}  # padding of the cached tokens; ragged: the library's own
SHORT_TOKENS = 16
QUIET_SECONDS = 120.0  # without a step: the manager hangs
PROFILED_TOKENS, SETTLE_STEPS, PROFILED_STEPS = 320, 16, 48
POLL_SECONDS = 0.005


class TheirEngine:
    """See `Contestant`."""

    def __init__(self, who: Contender, models: Models) -> None:
        self.who = who
        self.models = models
        self.attention = ""
        self.model: Any = None
        self.manager: Any = None
        self.workload = ""
        self.longest = 0

    def prepare(self, case: Case) -> None:
        if self.manager is not None and self.workload == case.workload and case.longest <= self.longest:
            return  # the warm-up of a longer case has met all sizes of this one
        if self.who.asynchronous and not torch.cuda.is_available():
            raise NotHere("transformers' asynchronous batching needs an NVIDIA GPU")
        self.close()
        logging.getLogger("ContinuousBatchingLogger").setLevel(logging.CRITICAL)  # a failure is reported in one line
        self.model = self.models.get(case.model, changed=False)
        self.best = best_attention(self.model)
        self.attention = self.best.kernel
        greedy = GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0)
        config = ContinuousBatchingConfig(**self.limits(case))
        self.manager = self.model.init_continuous_batching(greedy, config)
        self.manager.warmup()
        self.workload, self.longest = case.workload, case.longest
        # Sizes grow until the end of a run, so only a whole one meets them all. The article's would take minutes.
        self.run(replace(case, new_tokens=SHORT_TOKENS) if case.workload == "article" else case)

    def limits(self, case: Case) -> dict[str, Any]:
        """The settings for `ContinuousBatchingConfig`, whose names differ a little between releases."""
        blocks_each = 2 + case.longest // PAGE
        page = "page_size" if "page_size" in signature(ContinuousBatchingConfig).parameters else "block_size"
        limits: dict[str, Any] = {
            page: PAGE,
            "num_blocks": case.rows * blocks_each,
            "max_batch_tokens": TOKEN_BUDGET,
            "max_requests_per_batch": case.rows,
            "max_blocks_per_request": blocks_each + blocks_each % 2 if self.best.decode_path else 0,
            "allow_block_sharing": False,
            "safety_margin": 0.0,
            "use_async_batching": self.who.asynchronous,
        }
        if self.best.graphs:
            limits["use_cuda_graph"] = True
        if self.best.graphs and case.workload in KV_INTERVAL:
            limits["q_padding_interval_size"] = case.rows
            limits["kv_padding_interval_size"] = KV_INTERVAL[case.workload]
        if self.who.compiled:
            # Its `default_compile_level` leaves out the path that packed FlashAttention takes, so that is named here.
            limits["varlen_compile_config"] = CompileConfig(mode="default", fullgraph=False, dynamic=True)
            limits["decode_compile_config"] = limits["varlen_compile_config"] if self.best.decode_path else None
        return limits

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
        gc.collect()
        self.manager.current_batch = 0
        self.manager.start()
        time.sleep(0.2)  # until the thread waits for requests

    def stop(self) -> None:
        """Stop the thread and keep what was captured. The next start begins with an empty cache."""
        self.manager.stop(block=True, timeout=QUIET_SECONDS, keep_for_next_session=True)
        # The library would hand this manager to whoever asks for one; here each mode has its own.
        vars(self.model).pop("_cached_continuous_batching_manager", None)

    @property
    def captured(self) -> int:
        """Graphs captured so far; 0 where this release keeps them elsewhere."""
        io = getattr(getattr(self.manager, "batch_processor", None), "inputs_and_outputs", None)
        pairs = [pair.device_io for pair in getattr(io, "io_pairs", [])] or [io]
        return sum(len(getattr(getattr(pair, "graphs", None), "_storage", ())) for pair in pairs)

    def activity(self, case: Case) -> Activity:
        """All rows decode in the manager's thread while the profiler looks on."""
        tokens = min(PROFILED_TOKENS, case.new_tokens)
        case = replace(case, workload="equal", new_tokens=tokens)

        def wait_until(step: int) -> None:
            while self.manager.is_running() and self.manager.current_batch < min(step, tokens - 1):
                time.sleep(POLL_SECONDS)

        def decode() -> None:
            wait_until(self.manager.current_batch + PROFILED_STEPS)

        start_profiler()
        self.start()
        try:
            self.add(case, time.perf_counter())
            wait_until(SETTLE_STEPS)
            share = kernel_share(decode)
            if self.manager.current_batch >= tokens - 1:
                share = None  # the last requests ended while the profiler looked on
            self.collect(len(case.items))
        finally:
            self.stop()
        return Activity(kernel_active=share)

    def close(self) -> None:
        if self.manager is not None:
            self.manager.destroy()
            self.manager = self.model = None
            release_memory()
