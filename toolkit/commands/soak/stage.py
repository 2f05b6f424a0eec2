"""A part of a soak: one engine, its books, and what happens to it."""

import gc
import random
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from toolkit import device
from toolkit.commands.ledger import Ledger, LedgerError
from toolkit.commands.soak.answers import LONGEST_ANSWER, Answers
from toolkit.commands.soak.faults import faulty_engine
from toolkit.errors import UserError

LIMITS = {"num_blocks": 24, "block_size": 4, "max_rows": 6, "token_budget": 20, "max_length": 48}
NAMES = [f"name {i}" for i in range(16)]  # few, so that they are used again all the time
MOST_OPEN = 12  # requests at a time
CHANCES = {"add": 0.5, "cancel": 0.15, "preempt": 0.03, "fault": 0.01, "second fault": 0.3}  # before each step
IDLE_EVERY = 250  # steps
STEPS_TO_IDLE = 1000  # far more than it takes
WARM_UP = 4  # times of being idle, while caches fill
SPARE = 400  # Python's memory blocks come and go by some; one leaked for each request would soon be thousands


@dataclass(frozen=True)
class Stage:
    """A part of the run, with an engine of its own."""

    gpu_policy: str
    options: dict[str, Any]


def stages(seed: int) -> list[Stage]:
    return [
        Stage(f"random:{seed}", {}),
        Stage("lazy", {"prefix_sharing": False, "policy": "prefill_first"}),
        Stage("threads", {"policy": "prefill_first"}),
        Stage(f"random:{seed + 1}", {"asynchronous": False}),
    ]


class Soak:
    """One stage: an engine, its books, and what happens to it.

    Attributes:
        counts: what has happened, by name.
        held: (Python's memory blocks, bytes on the device) whenever the engine was idle.
    """

    def __init__(self, stage: Stage, answers: Answers, rng: random.Random, counts: Counter[str]) -> None:
        self.answers, self.rng, self.counts = answers, rng, counts
        if device.is_simulated():
            device.accelerator.reset(stage.gpu_policy, on_race="raise")
        self.engine: Any = faulty_engine()(answers.model.model, answers.tokenizer, **(LIMITS | stage.options))
        self.engine.book.eos_ids = {answers.eos_id}
        self.ledger = Ledger()
        self.held: list[tuple[int, int]] = []

    def run(self, steps: int) -> Iterator[None]:
        """Yields before each step; the last ones, in which the engine becomes idle, come on top."""
        for step in range(1, steps + 1):
            yield
            self.something_happens()
            self.ledger.take(self.engine.step())
            if step % IDLE_EVERY == 0 or step == steps:
                self.become_idle()
        self.counts.update(self.ledger.ended)
        self.counts.update(tokens=self.ledger.tokens, preempted=self.engine.num_preempted)

    def something_happens(self) -> None:
        rng, engine = self.rng, self.engine
        if rng.random() < CHANCES["add"] and len(engine.book.requests) < MOST_OPEN:
            self.add()
        if rng.random() < CHANCES["cancel"]:
            name = rng.choice(NAMES)
            in_use = name in self.open_names()
            if engine.cancel(name) != in_use:
                raise LedgerError(f"cancel of request {name} does not say whether it was there")
        if rng.random() < CHANCES["preempt"] and engine.scheduler.running:
            engine.scheduler.preempt(rng.choice(engine.scheduler.running))
        if rng.random() < CHANCES["fault"]:
            faults = [rng.choice(("launch", "wait"))] * (1 + (rng.random() < CHANCES["second fault"]))
            engine.executor.faults = faults
            self.counts["faults"] += len(faults)

    def open_names(self) -> set[str]:
        """Names in use, by the books: with an output to come that is not the one of a cancel."""
        leaving = Counter(output.request_id for output in self.engine.book.outputs)
        return {name for name, entries in self.ledger.open.items() if len(entries) > leaving[name]}

    def add(self) -> None:
        from ch02_continuous_batching import SamplingParams

        rng, number = self.rng, self.rng.randrange(len(self.answers.prompts))
        stop = self.answers.stop_string(number, rng) if rng.random() < 0.2 else ""
        params = SamplingParams(
            max_tokens=rng.randint(1, LONGEST_ANSWER), ignore_eos=rng.random() < 0.5, stop=(stop,) if stop else ()
        )
        name = rng.choice(NAMES)
        in_use = name in self.open_names()
        try:
            self.engine.add_request(name, self.answers.prompts[number], params)
        except UserError as refused:
            if not in_use:
                raise LedgerError(f"a name that is not in use was refused: {refused}") from None
            self.counts["refused"] += 1
            return
        if in_use:
            raise LedgerError(f"request {name} was taken, though the name is in use")
        self.counts["requests"] += 1
        self.ledger.add(name, self.answers.right(number, params))

    def become_idle(self) -> None:
        """Add nothing until all is done; then look at what is left, and at what it holds in memory."""
        for _ in range(STEPS_TO_IDLE):
            if not self.engine.has_work:
                break
            self.ledger.take(self.engine.step())
        else:
            raise LedgerError(f"after {STEPS_TO_IDLE} steps without arrivals there is still work")
        self.engine.executor.faults = []
        self.ledger.check_idle(self.engine)
        self.engine.metrics.first_token_ms.clear()
        self.engine.metrics.inter_token_ms.clear()
        if device.is_simulated():
            device.accelerator.forget()
        gc.collect()
        self.held.append((sys.getallocatedblocks(), device.accelerator.memory_allocated()))
        (objects, memory), (objects_now, memory_now) = self.held[:WARM_UP][-1], self.held[-1]
        if objects_now > objects + SPARE or memory_now > memory:
            raise LedgerError(
                f"idle, and {objects_now - objects} Python memory blocks and {memory_now - memory} bytes on the device "
                "more than earlier: a leak"
            )
