"""Exercise 10.5: whatever ends a run, the file holds rows 1 to k, whole, and the next run goes on from there."""

import errno
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from ch10_serving import answers_file
from ch10_serving.answers_file import CHUNK, AnswersFile
from tests.causes import has_result, likely
from tests.words import must_raise
from toolkit.errors import UserError

ROWS = [b'{"line": 1, "text": "one"}', b'{"line": 2, "text": ""}', b'{"line": 3, "text": "three"}']
TEXT = b"".join(row + b"\n" for row in ROWS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


class SmallDisk:
    """In place of os.write: writes at most `most` bytes a time, and `room` bytes in all; then the disk is full."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int = 10**9, most: int = 10**9) -> None:
        self.room, self.most, self.calls = room, most, 0
        self.write = os.write
        monkeypatch.setattr(answers_file.os, "write", self)

    def __call__(self, fd: int, data: bytes) -> int:
        self.calls += 1
        assert self.calls < 1000, "os.write was called 1,000 times for a few rows: does the data to write get shorter?"
        if data and self.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self.write(fd, bytes(data)[: min(self.room, self.most)])
        self.room -= written
        return written


@pytest.mark.exercise("10.5")
def test_rows_are_added(path: Path):
    """Each row becomes a line, behind what is there."""
    with AnswersFile(path) as answers:
        assert answers.num_rows == 0, f"the file has just been made, and num_rows says {answers.num_rows}"
        answers.append(ROWS[:1])
        answers.append(ROWS[1:])
        assert answers.num_rows == 3, f"3 rows were added; num_rows says {answers.num_rows}"
    assert path.read_bytes() == TEXT, f"the file holds {path.read_bytes()!r}"


@pytest.mark.exercise("10.5")
def test_the_next_run_goes_on(path: Path):
    """What is there is counted and stays, and new rows come behind it."""
    path.write_bytes(TEXT)
    with AnswersFile(path) as answers:
        has_result(answers.num_rows, "resume")
        assert answers.num_rows == 3, f"there are 3 whole lines; resume counted {answers.num_rows}"
        assert path.read_bytes() == TEXT, f"opening the file changed whole lines: it holds {path.read_bytes()!r}"
        answers.append([b"4"])
    seen = path.read_bytes()
    cause = likely((seen.startswith(b"4"), "it was written over what is there: os.lseek says where writes go"))
    assert seen == TEXT + b"4\n", f"a row was added behind three, and the file holds {seen!r}. {cause}"


@pytest.mark.exercise("10.5")
@pytest.mark.parametrize("torn", [b'{"li', b'{"line": 4, "text": "whole, it seems"}', b"\0" * 100])
def test_a_torn_line_is_cut_off(path: Path, torn: bytes):
    """Without a newline it does not count, even if it is JSON; and the next row is not glued to it."""
    path.write_bytes(TEXT + torn)
    with AnswersFile(path) as answers:
        assert answers.num_rows == 3, f"3 lines have an end, one has none; resume counted {answers.num_rows}"
        answers.append([b"4"])
    seen = path.read_bytes()
    cause = likely((torn in seen, "the torn line is still there: os.ftruncate cuts it off"))
    assert seen == TEXT + b"4\n", f"after a torn line was cut off and a row added, the file holds {seen!r}. {cause}"


@pytest.mark.exercise("10.5")
def test_nothing_but_a_torn_line(path: Path):
    path.write_bytes(b'{"line": 1')
    with AnswersFile(path) as answers:
        assert answers.num_rows == 0, f"there is no whole line; resume counted {answers.num_rows}"
    assert path.read_bytes() == b"", f"of a torn line alone nothing stays; the file holds {path.read_bytes()!r}"


@pytest.mark.exercise("10.5")
@pytest.mark.parametrize("before_the_end", [0, 1, 5, CHUNK - 5, CHUNK, CHUNK + 5])
def test_larger_than_a_chunk(path: Path, before_the_end: int):
    """Lines end anywhere in the chunks that are read, and a torn one may be longer than a chunk."""
    whole = b"\n" + b"x" * (2 * CHUNK - 3) + b"\n"
    path.write_bytes(whole + b"y" * before_the_end)
    with AnswersFile(path) as answers:
        assert answers.num_rows == 2, f"two lines, the second of two chunks' length; resume counted {answers.num_rows}"
    size = path.stat().st_size
    assert size == len(whole), f"{len(whole)} bytes are whole lines, and {size} are left ({before_the_end} were torn)"


@pytest.mark.exercise("10.5")
def test_only_a_newline_ends_a_line(path: Path):
    """A carriage return, or another character that ends a line elsewhere, is a part of it."""
    path.write_bytes(b'{"text": "one\rrow"}\n{"text": "an\x0bother"}\n')
    with AnswersFile(path) as answers:
        assert answers.num_rows == 2, (
            f"two lines, with \\r in the first and \\x0b in the second; resume counted {answers.num_rows}. "
            "splitlines() takes more for the end of a line than a newline; count(b'\\n') does not"
        )


@pytest.mark.exercise("10.5")
def test_the_file_may_be_larger_than_memory(path: Path):
    """Of 16 chunks never all are held at the same time."""
    path.write_bytes((b"x" * 1023 + b"\n") * (16 * CHUNK // 1024))
    tracemalloc.start()
    try:
        AnswersFile(path).close()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 8 * CHUNK, (
        f"a file of {16 * CHUNK:,} bytes was opened, and {most:,} bytes of memory were held at a time. Count in each "
        "chunk, and let it go"
    )


@pytest.mark.exercise("10.5")
def test_a_short_write_is_gone_on_with(path: Path, monkeypatch: pytest.MonkeyPatch):
    """The system may take 7 bytes of what it is given; the rest is given again."""
    with AnswersFile(path) as answers:
        SmallDisk(monkeypatch, most=7)
        answers.append(ROWS)
    seen = path.read_bytes()
    cause = likely((len(seen) <= 7, "os.write returns how much it has written, and that was not all"))
    assert seen == TEXT, f"os.write took 7 bytes at a time; the file holds {seen!r}. {cause}"


@pytest.mark.exercise("10.5")
@pytest.mark.parametrize("room", range(0, len(TEXT), 7))
def test_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch, room: int):
    """Wherever it gets full: the error comes out, what was there stays, and of the new rows nothing is left."""
    path.write_bytes(b"0\n")
    with AnswersFile(path) as answers:
        disk = SmallDisk(monkeypatch, room)
        try:
            answers.append(ROWS)
            pytest.fail("the disk was full, and append raised nothing: the caller would go on as if all were written")
        except OSError as error:
            assert error.errno == errno.ENOSPC, f"what came out of append is {error!r}, not the system's own error"
        left = path.read_bytes()
        assert left == b"0\n", f"the disk was full after {room} bytes; of three rows there is left: {left[2:]!r}"
        assert answers.num_rows == 1, f"1 row is in the file; num_rows says {answers.num_rows}"
        disk.room = 10**9
        answers.append(ROWS)
    seen = path.read_bytes()
    cause = likely((b"\0" in seen, "cut off, but the position is still behind it: os.lseek"))
    assert seen == b"0\n" + TEXT, f"the same rows, when there was room again: {seen!r}. {cause}"


@pytest.mark.exercise("10.5")
def test_ctrl_c_in_the_middle(path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whatever is raised, the rows are taken back; Ctrl-C is a KeyboardInterrupt, which is no OSError."""
    path.write_bytes(b"0\n")
    with AnswersFile(path) as answers:
        monkeypatch.setattr(answers_file.os, "fsync", interrupted)
        try:
            answers.append(ROWS)
            pytest.fail("Ctrl-C was pressed while append waited for the disk, and append went on as if it had not been")
        except KeyboardInterrupt:
            pass
        left, counted = path.read_bytes(), answers.num_rows
    assert (left, counted) == (b"0\n", 1), (
        f"Ctrl-C was pressed while append waited for the disk; the file holds {left!r} and num_rows says {counted}. "
        "Which exceptions does your except catch? KeyboardInterrupt is a BaseException"
    )


def interrupted(fd: int) -> None:
    raise KeyboardInterrupt


@pytest.mark.exercise("10.5")
def test_it_is_on_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch):
    """fsync comes after the last write; where it finds the disk full, the rows are taken back as well."""
    with AnswersFile(path) as answers:
        sizes = []

        def full(fd: int) -> None:
            sizes.append(os.fstat(fd).st_size)
            raise OSError(errno.EDQUOT, "Disk quota exceeded")

        monkeypatch.setattr(answers_file.os, "fsync", full)
        with must_raise(
            OSError, "quota", "os.fsync was not called: what the disk could not take would be lost silently"
        ):
            answers.append(ROWS)
        assert sizes == [len(TEXT)], f"fsync was called with {sizes} bytes in the file, and {len(TEXT)} were to write"
        assert (path.read_bytes(), answers.num_rows) == (b"", 0), "fsync has failed, and the rows count all the same"


def test_one_process_at_a_time(path: Path):
    """A second run of the same job would double its rows; when the first has ended, however, it may."""
    code = "import sys; sys.stdin.read()"
    with AnswersFile(path):
        with pytest.raises(UserError, match="another run is writing it"):
            AnswersFile(path)
    with AnswersFile(path):
        subprocess.run([sys.executable, "-c", code], stdin=subprocess.DEVNULL, check=True)
    AnswersFile(path).close()


@pytest.mark.parametrize("name", ["", "no/such/folder.jsonl"])
def test_a_file_that_cannot_be_opened(tmp_path: Path, name: str):
    with pytest.raises(UserError, match="cannot open it: (Is a directory|No such file or directory)"):
        AnswersFile(tmp_path / name)
