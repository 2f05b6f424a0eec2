"""The rounds: every engine serves the same case, in turns, and whatever is measured is written at once.

The engines of a case are all alive at the same time, and in every second round the order is turned around: what
changes with time, such as a GPU that gets warm, hits them alike. The memory of an 80 GB GPU is enough for that with 32
rows and without vLLM; for more, name fewer engines. The article's workload is the exception: its KV cache leaves room
for one engine only.

An engine that fails is reported in one line and takes no further part; the others go on.
"""

import sys
from collections.abc import Callable, Sequence

from toolkit.commands.bench.board import Board
from toolkit.commands.bench.cases import Case
from toolkit.commands.bench.engine_runner import EngineRunner, EngineSpec, Models, NotHere
from toolkit.commands.bench.ours import OurEngine
from toolkit.commands.bench.theirs import TheirEngine
from toolkit.commands.bench.vllm_engine import VllmEngine
from toolkit.commands.bench.vllm_process import VllmPython
from toolkit.garbage import release_memory, short_collections

Enter = Callable[[EngineSpec, Models], EngineRunner]


def enter(who: EngineSpec, models: Models, vllm: VllmPython | None = None) -> EngineRunner:
    """The runner for an engine."""
    if who.engine == "vllm":
        assert vllm is not None, "vLLM takes part only where it was found"
        return VllmEngine(who, vllm)
    return OurEngine(who, models) if who.engine == "ours" else TheirEngine(who, models)


class Comparison:
    """Runs cases and keeps count of what went wrong.

    Attributes:
        problems: one line each; empty if everything is as it should be.
        failed: who takes no further part.
    """

    def __init__(self, board: Board, models: Models, rounds: int, enter: Enter = enter) -> None:
        self.board = board
        self.models = models
        self.rounds = rounds
        self.enter = enter
        self.problems: list[str] = []
        self.failed: set[EngineSpec] = set()

    def side_by_side(self, cases: Sequence[tuple[Case, Sequence[EngineSpec]]]) -> None:
        """All engines of one model alive at once, each used for every case that it is in.

        At the end the profiler looks how busy each keeps the GPU: last, since it may leave traces in what is timed
        after it.
        """
        alive: dict[EngineSpec, EngineRunner] = {}
        for case, specs in cases:
            for who in specs:
                if self.board.wants(case, who, self.rounds) and who not in self.failed:
                    alive.setdefault(who, self.enter(who, self.models))
            taking_part = [who for who in specs if self.board.wants(case, who, self.rounds) and who in alive]
            for who in taking_part:
                self.attempt(alive, who, case, self.prepare)
            for number in range(self.rounds):
                for who in taking_part if number % 2 == 0 else taking_part[::-1]:
                    self.attempt(alive, who, case, self.run)
            self.check_outputs(case)
        for case, specs in cases:
            for who in specs:
                if case.workload == "equal" and self.board.wants_activity(case, who) and who not in self.failed:
                    alive.setdefault(who, self.enter(who, self.models))
                    self.attempt(alive, who, case, self.measure_activity)
        for one in alive.values():
            one.close()
        alive.clear()
        self.models.release()

    def one_by_one(self, case: Case, specs: Sequence[EngineSpec]) -> None:
        """One engine at a time, its memory given back before the next is built; one round."""
        for who in specs:
            if not self.board.wants(case, who, 1) or who in self.failed:
                continue
            alone = {who: self.enter(who, self.models)}
            self.attempt(alone, who, case, self.prepare)
            self.attempt(alone, who, case, self.run)
            for one in alone.values():
                one.close()
        self.check_outputs(case)
        self.models.release()

    def attempt(
        self,
        alive: dict[EngineSpec, EngineRunner],
        who: EngineSpec,
        case: Case,
        act: Callable[[EngineRunner, Case], None],
    ) -> None:
        """Let an engine do something, if it is still alive; on failure say so in one line and take it out."""
        if who not in alive:
            return
        try:
            act(alive[who], case)
            return
        except NotHere as reason:
            print(f"note: {who} is left out: {reason}", flush=True)
        except Exception as error:  # whatever it is, the other engines are measured all the same
            first_line = (str(error).strip().splitlines() or [""])[0]
            self.complain(f"{who}, {case}: {type(error).__name__}: {first_line}")
        self.failed.add(who)
        alive.pop(who).close()  # outside the handlers: a traceback would hold the engine's memory
        release_memory()

    def prepare(self, one: EngineRunner, case: Case) -> None:
        one.prepare(case)

    def run(self, one: EngineRunner, case: Case) -> None:
        with short_collections():
            run = one.run(case)
        self.board.add(case, one.who, one.attention, run, one.details)
        self.board.write()
        print(f"  {case}: {one.who!s:28} {run.seconds:8.2f} s {run.tokens_per_s:9.1f} tokens/s", flush=True)

    def measure_activity(self, one: EngineRunner, case: Case) -> None:
        one.prepare(case)  # its last case may have had other rows
        with short_collections():
            self.board.activities[case.model, case.rows, one.who] = one.activity(case)
        self.board.write()

    def check_outputs(self, case: Case) -> None:
        """Asynchronous or not, our engine gives the same tokens, in every round.

        Not asked where lengths differ: there requests share their batches with others from mode to mode (of the ragged
        workload even from run to run), and in bf16 a token's scores depend on the batch.
        """
        if case.lengths_differ:
            return
        for compiled in (False, True):
            ours = [EngineSpec("ours", mode, compiled) for mode in ("sync", "async")]
            runs = [run for who in ours for run in self.board.runs(case, who)]
            if any(run.outputs != runs[0].outputs for run in runs):
                self.complain(f"{case}: ours{' compiled' * compiled}: synchronous and asynchronous tokens differ")

    def complain(self, problem: str) -> None:
        self.problems.append(problem)
        print(f"error: {problem}", file=sys.stderr, flush=True)
