"""Makes a table of a class's reports, and a page for each exercise: `make collect FOLDER=reports/`.

    python -m toolkit.commands.classroom.collect reports/ --jobs 4        # --trust, --no-run, --out FOLDER

What cannot be read, comes twice, or is no report, is named and left out. The checks are run again on the files that
were handed in, in a container; without docker or podman only if the reports are trusted (sandbox.py says what that
means). Results are kept: the same command goes on where it was interrupted, and runs only what is new.
"""

import argparse
import sys
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from rich.console import Console

from toolkit.choice import ROOT
from toolkit.commands.classroom.cells import shown
from toolkit.commands.classroom.jobs import Results, course_digest, jobs_of, waiting
from toolkit.commands.classroom.processes import Limits
from toolkit.commands.classroom.reading import Read, read_folder
from toolkit.commands.classroom.rerun import Verdict
from toolkit.commands.classroom.running import Running, run_jobs, sandbox_for
from toolkit.commands.classroom.sandbox import IMAGE
from toolkit.commands.classroom.summary import summarise
from toolkit.commands.classroom.table import Row, as_csv, as_table, remarks
from toolkit.commands.exercises.metadata import load
from toolkit.commands.learner.shipped import digest
from toolkit.errors import UserError, exit_cleanly
from toolkit.files import write_whole

RAN = "What counts as solved was checked again with the files that were handed in."
NOT_RAN = "The checks were not run again: what counts as solved is what the reports say."


def write_pages(out: Path, rows: list[Row], root: Path, basis: str) -> None:
    pages = Environment(loader=FileSystemLoader(Path(__file__).parent / "pages"), autoescape=True)
    summaries = [summarise(exercise, rows) for exercise in load(root).values()]
    common = {"learners": len(rows), "basis": basis}
    write_whole(out / "index.html", pages.get_template("index.html").render(summaries=summaries, **common))
    for summary in summaries:
        page = pages.get_template("exercise.html").render(summary=summary, **common)
        write_whole(out / f"exercise-{summary.exercise.id}.html", page)


def collect(folder: Path, out: Path, running: Running, root: Path = ROOT, console: Console | None = None) -> list[Row]:
    """Read the reports of a folder, check them again, write table and pages to `out`, and print what matters."""
    console = console or Console()
    read = read_folder(folder)
    if read.reports:
        rows, ran = checked(read, out, running, root, console)
        write_whole(out / "table.csv", as_csv(rows, load(root)))
        write_pages(out, rows, root, RAN if ran else NOT_RAN)
        console.print(as_table(rows, len(load(root)), ran))
        if not ran:
            print(NOT_RAN)
            if running.how == "container":
                print("There is neither docker nor podman that works. To run the reports' code as your own: TRUST=1")
    for name, why in read.left_out.items():
        print(f"left out: {shown(name, 120)}: {shown(why, 300)}")
    if not read.reports:
        raise UserError(f"{folder} holds no report that counts; learners write one with: make report")
    print(f"{len(read.reports)} reports; {out / 'table.csv'}, and {out / 'index.html'} with a page for each exercise")
    return rows


def checked(read: Read, out: Path, running: Running, root: Path, console: Console) -> tuple[list[Row], bool]:
    """The rows of the table, and whether the checks were run again."""
    exercises, course, results = load(root), course_digest(root), Results(out / "results", root)
    jobs = {name: jobs_of(report, exercises, course) for name, report in read.reports.items()}
    found: dict[str, dict[str, Verdict]] = {}
    with sandbox_for(running, root) as sandbox:
        if sandbox is not None:
            todo = waiting([job for mine in jobs.values() for job in mine], results)
            found = run_jobs(todo, results, sandbox, running.workers, console) if todo else {}
    release, everyone, rows = digest(root), list(read.reports.values()), []
    for name, report in read.reports.items():
        verdicts: dict[str, Verdict] = {}
        for job in jobs[name] if sandbox is not None else []:
            verdicts |= found.get(job.key) or results.known(job) or {}
        rows.append(Row(name, report, verdicts, remarks(report, verdicts, everyone, release)))
    return rows, sandbox is not None


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m toolkit.commands.classroom.collect", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("folder", nargs="?", type=Path, help="where the reports are, in folders inside it too")
    parser.add_argument("--out", type=Path, help="where table, pages and results go (by default FOLDER-collected)")
    parser.add_argument("--trust", action="store_true", help="run the handed-in code as your own, without a container")
    parser.add_argument("--no-run", action="store_true", help="believe the reports, and run nothing")
    parser.add_argument("--jobs", type=int, default=Running().workers, help="checks side by side (here %(default)s)")
    parser.add_argument("--image", default=IMAGE, help="the container's image (%(default)s)")
    parser.add_argument(
        "--minutes", type=float, default=Limits.seconds / 60, help="for one chapter's check (%(default)s)"
    )
    options = parser.parse_args()
    if options.folder is None:
        raise UserError("which folder? For instance: make collect FOLDER=reports/")
    if options.jobs < 1 or options.minutes <= 0:
        raise UserError("--jobs and --minutes must be more than 0")
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # names that the terminal cannot show
    folder = options.folder.resolve()
    out = (options.out or folder.with_name(f"{folder.name}-collected")).resolve()
    if out.is_relative_to(folder):
        raise UserError(f"{out} lies in the folder of the reports, where it would be read as one; name another --out")
    how = "no" if options.no_run else "trust" if options.trust else "container"
    collect(folder, out, Running(how, options.jobs, options.image, Limits(seconds=60 * options.minutes)))
    return 0


if __name__ == "__main__":
    exit_cleanly(main)
