"""A folder of reports: which of its files count, and why each of the others does not."""

import os
from dataclasses import dataclass
from pathlib import Path

from toolkit.commands.classroom.report_file import Report, read_report
from toolkit.errors import UserError

MOST_FILES = 5000


@dataclass(frozen=True)
class Read:
    """What a folder holds.

    Attributes:
        reports: file, by its path inside the folder -> the report in it; by name, and of one learner's only the newest.
        left_out: file -> why it does not count.
    """

    reports: dict[str, Report]
    left_out: dict[str, str]


def read_folder(folder: Path) -> Read:
    """All reports at whatever depth below a folder; links are not followed.

    Raises:
        UserError: there is no such folder, or it holds so many files that it must be another one.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; put the reports into one: make collect FOLDER=reports/")
    reports: dict[str, Report] = {}
    left_out: dict[str, str] = {}
    paths: list[Path] = []
    for where, _, names in os.walk(folder):
        paths += [Path(where, name) for name in names]
        if len(paths) > MOST_FILES:
            raise UserError(f"{folder} holds more than {MOST_FILES} files; name the folder that has the reports alone")
    for path in sorted(paths):
        name = path.relative_to(folder).as_posix()
        try:
            if path.is_symlink():
                raise UserError("it is a link")
            reports[name] = read_report(path)
        except UserError as error:
            left_out[name] = str(error)
    newest: dict[tuple[str, str], str] = {}
    for name, report in sorted(reports.items(), key=lambda item: (item[1].written, item[0]), reverse=True):
        counts = newest.setdefault((report.learner, report.name), name)
        if counts != name:
            same = reports[counts] == report
            left_out[name] = f"{'the same report as' if same else 'a newer report of the same learner is in'} {counts}"
    counted = sorted(newest.values(), key=lambda name: (reports[name].name.casefold(), name))
    return Read({name: reports[name] for name in counted}, left_out)
