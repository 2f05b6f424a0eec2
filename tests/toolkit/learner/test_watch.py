"""`make watch CH=2`: a check now, and one at every save."""

import threading
import time

import pytest

from toolkit.commands.learner.watch import saves, watch
from toolkit.errors import UserError

PLACEHOLDER = '    raise NotImplementedError("ch91 exercise 2: Add up")\n    return result\n'


def test_it_checks_now_and_at_every_save(toy, edit, capsys):
    """Each time with what is in the file; a file that cannot be loaded is one line, and it goes on."""

    def saved():
        edit(PLACEHOLDER, "    return sum(numbers\n")
        yield {"counter.py"}
        edit("sum(numbers", "sum(numbers)")
        yield {"counter.py"}

    watch("91.2", toy, saved())
    first, second, third = capsys.readouterr().out.split(f"{'-' * 20} counter.py saved {'-' * 20}")
    assert "91.2 Add up: not started" in first and "1 of 1 exercise solved" in third
    assert "error: my/ch91_second/counter.py, line 24: Python cannot read this: '(' was never closed" in second
    assert all(part.endswith("Waiting for the next save; Ctrl-C ends this.\n\n") for part in (first, second))


def test_saves_are_seen_and_other_files_are_not(toy):
    """A written file and one that an editor puts in its place; no lesson, no cache, no checkpoint of JupyterLab."""
    folder = toy / "my/ch91_second"
    (folder / ".ipynb_checkpoints").mkdir()
    seen = []

    def work():
        while len(seen) < 2:
            (folder / "lesson.ipynb").write_text("{}")
            (folder / ".ipynb_checkpoints/counter-checkpoint.py").write_text("x = 1\n")
            if seen:
                (folder / "counter.py~").write_text("x = 2\n")
                (folder / "counter.py~").replace(folder / "other.py")
            else:
                (folder / "counter.py").write_text("x = 1\n")
            time.sleep(0.3)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    for names in saves(folder):
        seen.append(names)
        if len(seen) == 2 or "other.py" in names:
            break
    seen += [set()] * 2
    worker.join()
    assert seen[0] == {"counter.py"} and seen[1] in ({"other.py"}, {"counter.py"})


def test_what_cannot_be_watched_is_one_line(toy):
    """No such chapter, no such exercise, and a chapter without a folder in my/."""
    with pytest.raises(UserError, match="there is no chapter '7'"):
        watch("7", toy, [])
    with pytest.raises(UserError, match=r"there is no exercise '9\.9'"):
        watch("9.9", toy, [])
    with pytest.raises(UserError, match="^my/ch90_first is not there, so nothing can be watched in it"):
        watch("90", toy, [])
