"""This course's engine behind the bench's interface: chapter 9's, synchronous or asynchronous, compiled or not."""

import time
from dataclasses import replace
from typing import Any

from toolkit import device
from toolkit.commands.bench.activity import kernel_share, steady_shares
from toolkit.commands.bench.cases import PROMPT, Case
from toolkit.commands.bench.engine_runner import EngineSpec, Models, NotHere
from toolkit.commands.bench.measured import Activity, Run
from toolkit.commands.decoding import BLOCK_SIZE
from toolkit.commands.host_work import HostWork
from toolkit.garbage import release_memory
from toolkit.paged_attention import PAGED, attention_kernel_name, use_paged_attention
from toolkit.timeline import NO_TIMELINE

WARM_UP_TOKENS = 16
SETTLE_STEPS, HOST_STEPS, TIMELINE_STEPS, PROFILED_STEPS = 16, 64, 48, 48


class OurEngine:
    """See `EngineRunner`. A compiled engine gets a model of its own, with merged projections; the others share one."""

    def __init__(self, who: EngineSpec, models: Models) -> None:
        self.who = who
        self.models = models
        self.attention = ""
        self.details: dict[str, str] = {}
        self.model: Any = None
        self.engine: Any = None
        self.rows = self.longest = 0

    def prepare(self, case: Case) -> None:
        if self.who.compiled and device.is_simulated():
            raise NotHere("only for a GPU is the forward compiled")
        if case.rows != self.rows or case.longest > self.longest:
            self.close()
            self.engine = self.build(case)
            self.rows, self.longest = case.rows, case.longest
        # What has a shape of its own where lengths differ (chunks beside decode rows) is met only by such a run.
        short = min(WARM_UP_TOKENS, case.new_tokens)
        self.run(case if case.lengths_differ else replace(case, new_tokens=short))

    def build(self, case: Case) -> Any:  # noqa: ANN401 (a FullEngine, of whichever code runs)
        from ch09_persistent_batch import PersistentEngine

        blocks_each = 1 - (-case.longest // BLOCK_SIZE)
        self.model = self.models.get(case.model, changed=self.who.compiled)
        engine: Any = PersistentEngine(
            self.model,
            asynchronous=self.who.asynchronous,
            compiled=self.who.compiled,
            prefix_sharing=False,  # the prompts have nothing in common
            num_blocks=case.rows * blocks_each,
            block_size=BLOCK_SIZE,
            max_rows=case.rows,
            token_budget=case.token_budget,
            max_length=case.longest,
        )
        self.attention = attention_kernel_name(engine.executor.forward.storage)
        return engine

    def run(self, case: Case) -> Run:
        from ch02_continuous_batching import SamplingParams

        engine, clock = self.engine, time.perf_counter
        self.start(case)
        names = [f"{number}" for number in range(len(case.items))]
        outputs: dict[str, list[int]] = {name: [] for name in names}
        stamps: dict[str, list[float]] = {name: [] for name in names}
        waiting = list(zip(names, case.items, case.arrivals, strict=True))[::-1]
        steps: list[tuple[float, Any]] = []
        metrics, full = engine.metrics, HostWork(engine)
        first_step, device_ms, idle_ms = engine.num_steps, metrics.device_ms, metrics.idle_ms
        start = clock()
        while waiting or engine.has_work:
            while waiting and waiting[-1][2] <= clock() - start:
                name, item, _ = waiting.pop()
                params = SamplingParams(max_tokens=item.max_tokens, ignore_eos=not case.eos_ids)
                engine.add_request(name, item.prompt_ids, params)
            if not engine.has_work:
                time.sleep(max(waiting[-1][2] - (clock() - start), 0))
                continue
            # The batch is full once as many have been let in, and as long as others wait.
            is_full = 0 < len(engine.scheduler.waiting) <= len(case.items) - case.rows
            brought = full.step() if is_full else engine.step()
            steps.append((clock(), brought))  # looked at afterwards: it takes a while, and is no part of serving
        for now, brought in steps:
            for output in brought:
                if output.error:
                    raise RuntimeError(f"request {output.request_id}: {output.error}")
                outputs[output.request_id] += output.new_token_ids
                stamps[output.request_id] += [now] * len(output.new_token_ids)
        device_ms, idle_ms = metrics.device_ms - device_ms, metrics.idle_ms - idle_ms
        return Run(
            [outputs[name] for name in names],
            [stamps[name] for name in names],
            [start + arrival for arrival in case.arrivals],
            engine.num_steps - first_step,
            active=device_ms / (device_ms + idle_ms),
            host_ms=full.median_ms,
        )

    def start(self, case: Case) -> None:
        """Make the engine ready for a run."""
        if self.model.config._attn_implementation != PAGED:  # transformers' engines have used the model since
            use_paged_attention(self.model)
        self.engine.observers.timeline = NO_TIMELINE
        self.engine.book.eos_ids = case.eos_ids

    def activity(self, case: Case) -> Activity:
        """All rows decode: some steps for the host's work, some under the timeline, then some under the profiler."""
        from ch02_continuous_batching import SamplingParams

        self.start(replace(case, workload="equal"))
        engine = self.engine
        prefills = case.rows * PROMPT // (case.token_budget - case.rows)  # the first rows decode in the meantime
        tokens = prefills + 2 * SETTLE_STEPS + HOST_STEPS + TIMELINE_STEPS + PROFILED_STEPS
        items = replace(case, workload="equal", new_tokens=min(tokens, self.longest - PROMPT)).items
        started: set[str] = set()
        for number, item in enumerate(items):
            params = SamplingParams(max_tokens=item.max_tokens, ignore_eos=True)
            engine.add_request(f"{number}", item.prompt_ids, params)
        while len(started) < len(items):
            started |= {output.request_id for output in engine.step()}

        def steps(count: int) -> None:
            for _ in range(count):
                engine.step()

        steps(SETTLE_STEPS)
        host = HostWork(engine)
        host.steps(HOST_STEPS)
        device.accelerator.synchronize()
        timeline = engine.observers.timeline = device.new_timeline()
        steps(TIMELINE_STEPS)
        device.accelerator.synchronize()
        recording, engine.observers.timeline = timeline.finish(), NO_TIMELINE
        kernels = kernel_share(lambda: steps(PROFILED_STEPS))
        while engine.has_work:
            engine.step()
        return replace(steady_shares(recording), kernel_active=kernels, host_ms=host.median_ms)

    def close(self) -> None:
        self.engine = self.model = None
        self.rows = self.longest = 0
        release_memory()
