"""`make lab`: JupyterLab opens on the learner's first lesson, and reaches every lesson and every picture of them."""

import json
import os
import posixpath
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from toolkit.choice import MINE
from toolkit.course import ROOT

START_SECONDS = 120
FIRST = "my/ch00_measuring/lesson.ipynb"
LAUNCH = """
import sys, pathlib
from toolkit.commands.learner.lab import launch
launch(pathlib.Path(sys.argv[1]), sys.argv[2:])
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The course in a folder of its own, without my/: the one in the repository, if there is one, is a learner's."""
    root = tmp_path_factory.mktemp("course")
    for name in ("chapters", "docs", "figures", "solutions", "toolkit"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "data", "local"))
    return root


@pytest.fixture(scope="module")
def server(tmp_path_factory, root):
    """The address and token of a server started as `make lab` does, without a browser, on a free port."""
    folder = tmp_path_factory.mktemp("jupyter")
    flags = ["--no-browser", "--allow-root", "--ServerApp.port=0"]
    command = [sys.executable, "-c", LAUNCH, str(root), *flags]
    private = {name: str(folder / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR")}
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | private, stdout=log, stderr=log)
    try:
        yield wait_for_server(folder, process)
    finally:
        process.terminate()
        process.wait()


def wait_for_server(folder, process):
    for _ in range(START_SECONDS * 10):
        for path in (folder / "JUPYTER_RUNTIME_DIR").glob("jpserver-*.json"):
            try:
                found = json.loads(path.read_text())
                return found["url"], found["token"]
            except (ValueError, KeyError):  # being written just now
                pass
        assert process.poll() is None, (folder / "log.txt").read_text()
        time.sleep(0.1)
    pytest.fail(f"no server after {START_SECONDS} s:\n{(folder / 'log.txt').read_text()}")


def fetch(server, path):
    """The answer to a request, redirections followed: (status, final address)."""
    url, token = server
    request = urllib.request.Request(f"{url}{path}", headers={"Authorization": f"token {token}"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.url
    except urllib.error.HTTPError as error:
        return error.code, error.url


def pictures_of(lesson, root):
    """The pictures that a notebook's text refers to, as paths from the repository's root."""
    cells = json.loads(lesson.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    links = re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)|<img [^>]*src=\"([^\"]+)\"", text)
    folder = lesson.parent.relative_to(root).as_posix()
    return [posixpath.normpath(posixpath.join(folder, one or other)) for one, other in links]


def test_every_lesson_and_every_picture_is_reached(server, root):
    """The server's own interface finds each lesson of my/, and the pictures at the places that the lessons name."""
    lessons = sorted((root / MINE).glob("*/lesson.ipynb"))
    pictures = {picture for lesson in lessons for picture in pictures_of(lesson, root)}
    assert len(lessons) >= 9 and len(pictures) >= 20, "the lessons are there, and their pictures are recognised"
    wanted = [f"api/contents/{lesson.relative_to(root).as_posix()}?content=0" for lesson in lessons]
    wanted += [f"files/{picture}" for picture in sorted(pictures)]
    missing = [path for path in wanted if fetch(server, path)[0] != 200]
    assert not missing, f"not found: {missing}"


def test_it_opens_on_the_first_lesson(server):
    """Who opens the server's address lands on chapter 0's lesson."""
    status, url = fetch(server, "")
    assert status == 200 and url.partition("?")[0].endswith(f"/lab/tree/{FIRST}")
