"""The class as a table: a line for each learner, on the terminal and as CSV."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, field

from rich.table import Table
from rich.text import Text

from toolkit.commands.classroom.cells import cell, shown
from toolkit.commands.classroom.report_file import ExerciseReport, Report
from toolkit.commands.classroom.rerun import Verdict


@dataclass(frozen=True)
class Row:
    """One learner: the file that counts, its report, and what the checks said that were run again, by exercise."""

    file: str
    report: Report
    verdicts: dict[str, Verdict]
    remarks: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return shown(self.report.name) or "(no name)"

    def word(self, id_: str) -> str:
        """Where the learner is with an exercise; what only their report says is marked as that."""
        said = self.report.exercises.get(id_)
        if said is None:
            return ""
        if id_ in self.verdicts:
            return self.verdicts[id_].verdict
        if said.solved:
            return "reported as solved"
        return {"begun": "started", "partly": "started", "written": "started"}.get(said.state, said.state)

    @property
    def solved(self) -> int:
        return sum(verdict.verdict == "solved" for verdict in self.verdicts.values())

    @property
    def reported(self) -> int:
        return sum(each.solved for each in self.report.exercises.values())

    def total(self, what: str) -> float:
        return round(sum(getattr(each, what) for each in self.report.exercises.values()), 1)


def remarks(report: Report, verdicts: dict[str, Verdict], others: list[Report], release: str) -> list[str]:
    """What a teacher may want to look at."""
    found = []
    if report.release != release:
        found.append("made with another release of the course")
    names = [other for other in others if other is not report and other.name == report.name != ""]
    if names:
        found.append("another learner has this name too")
    if any(other is not report and other.learner == report.learner for other in others):
        found.append("another report comes from a copy of the same my/")
    differs = [id_ for id_, verdict in verdicts.items() if is_refuted(report.exercises[id_], verdict)]
    if differs:
        found.append(f"reported as solved, and not when run again: {', '.join(differs)}")
    stopped = [f"{id_}: {verdict.failures[0].message}" for id_, verdict in verdicts.items() if is_stopped(verdict)]
    if stopped:
        found.append(stopped[0] + (f", and {len(stopped) - 1} more" if len(stopped) > 1 else ""))
    return found


def is_refuted(said: ExerciseReport, verdict: Verdict) -> bool:
    return said.solved and verdict.verdict in ("fails", "partly", "not written")


def is_stopped(verdict: Verdict) -> bool:
    return verdict.verdict == "not tested" and bool(verdict.failures)


def as_csv(rows: list[Row], ids: Iterable[str]) -> str:
    """A header and a line for each learner; opens as UTF-8 in spreadsheets too, and no cell is a formula."""
    ids = list(ids)
    text = io.StringIO()
    text.write("\ufeff")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(["name", "solved when run again", "reported as solved", "attempts", "hints", "minutes"]
                    + ["remarks", "file", "written", "course", "python", "system", *ids])  # fmt: skip
    for row in rows:
        report = row.report
        cells: list[str | float] = [
            row.name,
            row.solved,
            row.reported,
            row.total("attempts"),
            row.total("hints"),
            row.total("minutes"),
        ]
        cells += [
            "; ".join(row.remarks),
            row.file,
            report.written.isoformat(),
            report.course,
            report.python,
            report.system,
        ]
        writer.writerow([cell(value) for value in [*cells, *(row.word(id_) for id_ in ids)]])
    return text.getvalue()


def as_table(rows: list[Row], total: int, ran: bool) -> Table:
    """For the terminal."""
    table = Table(title=f"{len(rows)} learners, {total} exercises")
    for heading in ("name", "solved", "reported", "attempts", "hints", "minutes", "remarks"):
        table.add_column(heading, justify="left" if heading in ("name", "remarks") else "right")
    for row in rows:
        numbers = [str(row.solved) if ran else "-", str(row.reported)]
        numbers += [f"{row.total(what):.0f}" for what in ("attempts", "hints", "minutes")]
        table.add_row(Text(row.name), *numbers, Text("; ".join(shown(remark, 200) for remark in row.remarks)))
    return table
