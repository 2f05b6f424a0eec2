"""What has been measured so far, as the rows of one recording: figures/data/<gpu>/peers.json.

Several calls build one file. A row that is measured again replaces the earlier one; all others stay, each with the
commit and the command that it comes from. Where vLLM takes part there is room for fewer of the others, so the same
engine may be measured twice, beside vLLM and without it: two rows, since only engines of one call are compared. The
file is written after every run, so an interrupted call loses nothing.
"""

from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any

from toolkit.commands.bench.cases import Case
from toolkit.commands.bench.engine_runner import EngineSpec
from toolkit.commands.bench.floor import skeleton, step_bytes
from toolkit.commands.bench.measured import Activity, Measured, Run, agreement
from toolkit.recordings import DATA, device_slug, read_recording, write_recording

NAME = "peers"
KEY = ("engine", "mode", "compiled", "processes", "model", "workload", "new_tokens", "batch", "beside_vllm")
REFERENCE = (EngineSpec("transformers", "sync", False), EngineSpec("transformers", "async", False))

Row = dict[str, Any]


class Board:
    """Collects runs and writes them.

    Args:
        command: the command line, for the recording.
        device: see `write_recording`.
        folder: where DEVICE/peers.json is written; earlier rows are taken from there, else from figures/data.
        only_missing: `wants` answers no for what the earlier rows have.
        bandwidth: bytes per second of the GPU's memory, for the floor; None: no floor.
        clock: what each row says of its times.
        beside_vllm: whether vLLM takes part in this call.
    """

    def __init__(
        self,
        command: str,
        device: str,
        folder: Path,
        only_missing: bool,
        bandwidth: float | None,
        clock: str,
        beside_vllm: bool = False,
    ) -> None:
        self.command, self.device, self.folder = command, device, folder
        self.only_missing, self.bandwidth, self.clock = only_missing, bandwidth, clock
        self.beside_vllm = beside_vllm
        self.measured: dict[tuple[Case, EngineSpec], Measured] = {}
        self.details: dict[tuple[Case, EngineSpec], Row] = {}
        self.floors: dict[Case, float] = {}
        self.activities: dict[tuple[str, int, EngineSpec], Activity] = {}  # by model and rows
        self.earlier = earlier_rows(folder, device_slug(device), clock)

    def add(self, case: Case, who: EngineSpec, attention: str, run: Run, details: Row | None = None) -> None:
        """Keep a run, with the attention kernel that it had and whatever else its row is to say."""
        self.measured.setdefault((case, who), Measured()).runs.append(run)
        self.details[case, who] = {"attention": attention} | (details or {})
        if self.bandwidth and not case.lengths_differ and case not in self.floors:
            context = case.longest - case.new_tokens / 2
            self.floors[case] = step_bytes(skeleton(case.model), case.rows, context) * 1e3 / self.bandwidth

    def runs(self, case: Case, who: EngineSpec) -> list[Run]:
        return self.measured.get((case, who), Measured()).runs

    def wants(self, case: Case, who: EngineSpec, rounds: int) -> bool:
        """Whether this is to be measured."""
        key = self.key(case, who)
        return not (self.only_missing and any(row_key(r) == key and r["rounds"] >= rounds for r in self.earlier))

    def wants_activity(self, case: Case, who: EngineSpec) -> bool:
        """Whether it is still unknown how busy the GPU is, for a row that there is."""
        if self.clock != "cuda" or (case.model, case.rows, who) in self.activities or who.processes > 1:
            return False  # (what a second process launches, no profiler of the first one sees)
        mine = [row for row in self.rows() if self.belongs(row, case.model, case.rows, who)]
        return any(row["kernel_active"] is None or not self.only_missing for row in mine)

    def key(self, case: Case, who: EngineSpec) -> tuple[Any, ...]:
        return *astuple(who), case.model, case.workload, case.new_tokens, case.rows, self.beside_vllm

    def belongs(self, row: Row, model: str, batch: int, who: EngineSpec) -> bool:
        """Whether an engine's activity is the row's: it was measured with equal requests that decode."""
        mine = EngineSpec.of_row(row) == who and row["workload"] == "equal"
        return mine and (row["model"], row["batch"], row["beside_vllm"]) == (model, batch, self.beside_vllm)

    def row(self, case: Case, who: EngineSpec) -> Row:
        """One row, its activity left open."""
        measured = self.measured[case, who]
        row = dict(zip(KEY, self.key(case, who), strict=True))
        row |= {"requests": len(case.items)} | self.details[case, who] | {"clock": self.clock}
        row |= measured.numbers(case.new_tokens, equal=not case.lengths_differ)
        row |= {"floor_ms_per_step": round(self.floors[case], 4) if case in self.floors else None}
        row |= asdict(Activity(host_ms=measured.host_ms))
        row |= {"same_tokens": None, "first_difference": None}
        reference = next((self.runs(case, other) for other in REFERENCE if self.runs(case, other)), None)
        if reference is not None and not case.lengths_differ and who.engine != "vllm":  # it has weights of its own
            row |= agreement(measured.runs[0].outputs, reference[0].outputs)
        return row

    def rows(self) -> list[Row]:
        """Earlier rows and new ones, in a fixed order."""
        rows = {row_key(row): dict(row) for row in self.earlier}
        rows |= {self.key(case, who): self.row(case, who) for case, who in self.measured}
        for row in rows.values():
            for (model, batch, who), activity in self.activities.items():
                if self.belongs(row, model, batch, who):
                    row |= asdict(activity)
        return sorted(rows.values(), key=lambda row: [str(value).rjust(8) for value in reversed(row_key(row))])

    def new_rows(self) -> list[Row]:
        """The rows that this call has measured."""
        mine = {self.key(case, who) for case, who in self.measured}
        return [row for row in self.rows() if row_key(row) in mine]

    def write(self) -> Path | None:
        """Write all rows; nothing if there are none."""
        rows = self.rows()
        if not rows:
            return None
        return write_recording(NAME, rows, command=self.command, device=self.device, folder=self.folder)


def row_key(row: Row) -> tuple[Any, ...]:
    return *astuple(EngineSpec.of_row(row)), *(row[name] for name in KEY[4:])


def earlier_rows(folder: Path, slug: str, clock: str) -> list[Row]:
    """The rows of earlier calls, each with where it comes from."""
    for path in (folder / slug / f"{NAME}.json", DATA / slug / f"{NAME}.json"):
        if path.is_file():
            recording = read_recording(path)
            source = {key: recording[key] for key in ("torch", "transformers", "commit", "command")}
            source["beside_vllm"] = False  # what rows from before vLLM took part do not say
            return [source | row for row in recording["rows"] if row["clock"] == clock]
    return []
