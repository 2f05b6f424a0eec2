"""Random loads: whatever may happen to an engine, in any order, as a state machine of hypothesis.

Of a load that fails, hypothesis looks for the shortest one that fails in the same way, and prints it as calls. `makers`
are the engines that all of it happens to, side by side; from step to step they must not differ.
"""

import logging
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from ch02_continuous_batching import FinishReason
from ch08_full_engine import FullEngine
from tests.ch08_full_engine.asked import ASKED, LONGEST, PROMPTS, Asked, eos_id, right_answer, whole_answers
from tests.ch08_full_engine.looked_into import check_blocks, only_planted, state_of
from tests.ch08_full_engine.scripted import model
from tests.helpers import tiny_tokenizer
from tests.words import must_raise, work_left
from toolkit.commands.ledger import COMPLETE, Ledger
from toolkit.commands.soak.faults import FaultyExecutor, Planted
from toolkit.errors import UserError

STEP_LIMIT = 2000  # far more than any load needs
STEP_COUNT = 30  # things that happen in a load at most


STEPS = st.integers(0, 4)  # that follow upon whatever happens


def preempt_one(scheduler: Any, place: int) -> None:
    """Preempt a running request. A function of its own, so that no variable keeps the request while the load goes on:
    `Ledger.check_idle` would find it.
    """
    for request in scheduler.running[place : place + 1]:
        scheduler.preempt(request)


class Load(RuleBasedStateMachine):
    """Engines, and the books of each.

    Attributes:
        makers: what makes the engines.
        met: what has happened in all loads together, by name.
        in_use: names of requests that have neither ended nor been cancelled.
    """

    makers: ClassVar[tuple[Callable[..., Any], ...]] = (FullEngine,)
    met: ClassVar[Counter[str]] = Counter()

    @initialize(
        gpu_policy=st.sampled_from(["eager", "lazy", "random:1", "random:2"]),
        block_size=st.sampled_from([2, 4, 8]),
        spare_blocks=st.sampled_from([0, 4, 40]),
        limits=st.fixed_dictionaries(
            {
                "max_rows": st.sampled_from([8, 4, 2]),
                "token_budget": st.sampled_from([64, 16, 5]),
                "policy": st.sampled_from(["fcfs", "prefill_first"]),
                "asynchronous": st.sampled_from([True, False]),
                "prefix_sharing": st.sampled_from([True, False]),
            }
        ),
    )
    def start(self, gpu_policy: str, block_size: int, spare_blocks: int, limits: dict[str, Any]) -> None:
        from toolkit import simgpu

        whole_answers()  # before the device is reset, since chapter 2's engine runs on it, too
        simgpu.reset(gpu_policy, on_race="raise")
        limits |= {"block_size": block_size, "num_blocks": -(-LONGEST // block_size) + spare_blocks}
        self.engines = [make(model(), tiny_tokenizer(), max_length=LONGEST, **limits) for make in self.makers]
        self.ledgers = [Ledger() for _ in self.engines]
        self.in_use: set[str] = set()
        for engine in self.engines:
            engine.book.eos_ids = {eos_id()}
            engine.executor = FaultyExecutor(engine.executor)
            engine.recover = only_planted(engine.recover)

    @rule(requests=st.lists(ASKED, min_size=1, max_size=6), then=STEPS)
    def add(self, requests: list[Asked], then: int) -> None:
        """Requests come; one whose name is in use is refused, and nothing changes for the name's owner."""
        for asked in requests:
            params, name, prompt = asked.params(), asked.name, PROMPTS[asked.prompt]
            for engine, ledger in zip(self.engines, self.ledgers, strict=True):
                if name in self.in_use:
                    with must_raise(UserError, "in use", f"request {name} was taken, though its name is in use"):
                        engine.add_request(name, prompt, params)
                else:
                    engine.add_request(name, prompt, params)
                    ledger.add(name, right_answer(asked))
            self.in_use.add(name)
        self.steps(then)

    @rule(place=st.integers(0, 3), then=STEPS)
    def cancel(self, place: int, then: int) -> None:
        """A request goes, wherever it is; its name may come again before its last output is out."""
        for name in sorted(self.in_use)[place : place + 1]:
            for engine in self.engines:
                assert engine.cancel(name), f"request {name} has not ended, and cancel does not find it"
                assert not engine.cancel(name), f"request {name} was cancelled, and a second cancel finds it"
            self.in_use.discard(name)
        self.steps(then)

    @rule(place=st.integers(0, 3), then=STEPS)
    def preempt(self, place: int, then: int) -> None:
        for engine in self.engines:
            preempt_one(engine.scheduler, place)
        self.steps(then)

    @rule(then=STEPS)
    def forget_prefixes(self, then: int) -> None:
        for engine in self.engines:
            engine.forget_prefixes()
        self.steps(then)

    @rule(place=st.sampled_from(["launch", "wait"]), times=st.integers(1, 3), then=STEPS)
    def fault(self, place: str, times: int, then: int) -> None:
        """The next launch, or wait, raises; with several times, the next ones too, so that requests have to end."""
        for engine in self.engines:
            engine.executor.faults = [place] * times
        self.steps(then)

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.step()
            if not self.engines[0].has_work:
                break

    def step(self) -> None:
        """All engines do a step: the books of each must be right, and nothing may differ."""
        first = self.engines[0]
        running = set() if first.executor.faults else {request.request_id for request in first.scheduler.running}
        seen = []
        for engine, ledger in zip(self.engines, self.ledgers, strict=True):
            outputs = [*engine.step()]
            ledger.take(outputs)
            check_blocks(engine)
            seen.append([*outputs, state_of(engine)])
            if not engine.has_work:
                ledger.check_idle(engine)
        for output in seen[0][:-1]:
            self.note_end(output)
        self.met["preempted"] += sum(request.request_id in running for request in first.scheduler.waiting)
        for engine, other in zip(self.engines[1:], seen[1:], strict=True):
            assert other == seen[0], (
                f"step {engine.num_steps}: outputs, then steps, running, waiting, free blocks and shared tokens are "
                f"{other}; those of {self.makers[0].__name__} are {seen[0]}"
            )

    def note_end(self, output: Any) -> None:
        reason = output.finish_reason
        if reason is not None:
            assert reason.value in (*COMPLETE, "cancelled") or Planted.__name__ in output.error, (
                f"request {output.request_id} ends ({reason.value}) with the error {output.error!r}, not a planted one"
            )
            self.met[reason.value] += 1
        if reason not in (None, FinishReason.CANCELLED):  # a cancelled one's name may have been taken since
            self.in_use.discard(output.request_id)

    def teardown(self) -> None:
        """Nothing more comes: all requests end, and nothing is left."""
        if sys.exc_info()[0] is not None or not hasattr(self, "engines"):  # what went wrong already is to be reported
            return
        for _ in range(STEP_LIMIT):
            if not any(engine.has_work for engine in self.engines):
                break
            self.step()
        else:
            raise AssertionError(f"after {STEP_LIMIT} steps there is still work: {work_left(self.engines[0])}")
        figures = [
            (m.tokens, dict(m.finished), m.steps, len(m.first_token_ms)) for m in (e.metrics for e in self.engines)
        ]
        assert all(each == figures[0] for each in figures), f"the engines' metrics differ: {figures}"
        self.met["shared"] += self.engines[0].scheduler.blocks.num_shared_tokens


def run_loads(load: type[Load], examples: int, always_the_same: bool) -> Counter[str]:
    """So many loads, the same ones at every call or new ones. Returns what happened in them."""
    load.met.clear()
    logging.disable(logging.ERROR)  # what pytest keeps of a planted error's log would keep its request alive
    try:
        run_state_machine_as_test(load, settings=run_settings(examples, always_the_same))
    finally:
        logging.disable(logging.NOTSET)
    return load.met


def run_settings(examples: int, always_the_same: bool) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=STEP_COUNT,
        derandomize=always_the_same,
        report_multiple_bugs=False,  # each would be shrunk, which takes a minute
        print_blob=True,
    )
