"""An offline job without Ray: which rows there are, which are left to do, and that two jobs are not mixed up."""

import json
from itertools import islice
from pathlib import Path

import pytest

from ch10_serving.offline_job import OfflineJob, Recipe, Slice, rows_of
from toolkit.errors import UserError

RECIPE = Recipe("tiny", 8)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(b'{"prompt": "a"}\n\n  \nnot json\n{"prompt": "\xff"}\n{"prompt": "e"}')
    return path


def job(prompts: Path, recipe: Recipe = RECIPE, name: str = "answers.jsonl") -> OfflineJob:
    return OfflineJob(prompts, prompts.with_name(name), recipe)


def test_rows_are_the_lines_that_are_not_blank(prompts: Path):
    assert job(prompts).num_rows == 4
    assert [(line, offset) for line, offset, _ in rows_of(prompts)] == [(1, 0), (4, 20), (5, 29), (6, 45)]
    assert next(iter(rows_of(prompts, 5, 29))) == (5, 29, b'{"prompt": "\xff"}\n')


@pytest.mark.parametrize("start", range(6))
@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_slices_hold_each_row_once(prompts: Path, start: int, size: int):
    """From whichever row on: read one behind the other they are the rows that are left, none lost, none twice."""
    slices = list(job(prompts).slices(start, size))
    read = [row for part in slices for row in islice(rows_of(prompts, part.line, part.offset), part.num_rows)]
    assert read == list(rows_of(prompts))[start:]
    assert all(part.num_rows == size for part in slices[:-1])


def test_a_slice_says_where_it_begins(prompts: Path):
    assert list(job(prompts).slices(1, 2)) == [Slice(4, 20, 2), Slice(6, 45, 1)]


def test_answers_of_another_job_are_not_gone_on_with(prompts: Path):
    """Other prompts, another model, another length; as long as nothing is answered, that does not matter."""
    answers = prompts.with_name("answers.jsonl")
    job(prompts, Recipe("other", 8))
    job(prompts)
    with job(prompts).open_answers() as file:
        file.append([b"{}"])
    assert job(prompts).open_answers().num_rows == 1
    for recipe, said in (
        (Recipe("other", 8), "model was tiny and is other now"),
        (Recipe("tiny", 9), "max_tokens was 8"),
    ):
        with pytest.raises(UserError, match=said):
            job(prompts, recipe)
    prompts.write_bytes(prompts.read_bytes() + b"\n\n")
    assert job(prompts).num_rows == 4  # blank lines at the end
    prompts.write_bytes(prompts.read_bytes() + b'{"prompt": "f"}\n')
    with pytest.raises(UserError, match="prompts are not the same"):
        job(prompts)
    assert answers.read_bytes() == b"{}\n"


def test_a_file_that_no_run_has_made(prompts: Path):
    prompts.with_name("answers.jsonl").write_text("my letters\n")
    with pytest.raises(UserError, match="no run has made it"):
        job(prompts)
    with pytest.raises(UserError, match="written over the prompts"):
        job(prompts, name=prompts.name)


def test_more_answers_than_prompts(prompts: Path):
    made = job(prompts)
    made.answers.write_bytes(b"{}\n" * 5)
    with pytest.raises(UserError, match="5 answers to 4 prompts"):
        made.open_answers()


def test_prompts_that_are_none(tmp_path: Path):
    with pytest.raises(UserError, match="cannot read it: No such file"):
        job(tmp_path / "missing.jsonl")
    (tmp_path / "empty.jsonl").write_bytes(b"\n \n")
    with pytest.raises(UserError, match="no prompts in it"):
        job(tmp_path / "empty.jsonl")


def test_failed_rows(prompts: Path):
    made = job(prompts)
    made.answers.write_text(
        "".join(json.dumps(row) + "\n" for row in ({"line": 1, "text": ""}, {"line": 2, "error": "why"}))
    )
    assert list(made.failed_rows()) == ["why"]
