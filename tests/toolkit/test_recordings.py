"""The one writer of recordings: what it writes, where, and what it refuses."""

import json
import subprocess

import pytest
import torch

from toolkit import recordings
from toolkit.errors import UserError
from toolkit.recordings import device_name, device_slug, read_recording, write_recording


def test_a_recording_says_where_it_comes_from(tmp_path):
    """Device, versions, commit and command stand beside the rows, and reading gives back what was written."""
    rows = [{"engine": "ours", "ms": 1.5, "compiled": True, "note": None}, {"engine": "x", "ms": 2, "compiled": False}]
    path = write_recording("peers", rows, command="make peers", folder=tmp_path)
    assert path == tmp_path / "cpu" / "peers.json"
    data = read_recording(path)
    assert list(data) == ["device", "torch", "transformers", "commit", "command", "rows"]
    assert (data["rows"], data["command"], data["torch"]) == (rows, "make peers", torch.__version__)
    assert data["device"].endswith("cores") and len(data["device"]) > 8
    assert [file.name for file in path.parent.iterdir()] == ["peers.json"], "no scratch file is left behind"


def test_one_row_a_line(tmp_path):
    """The file can be read by people: each row is one line."""
    path = write_recording("a", [{"n": 1}, {"n": 2}], command="c", folder=tmp_path)
    assert '  {"n": 1},\n  {"n": 2}\n' in path.read_text()


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA A100-SXM4-40GB", "a100"),
        ("Tesla T4", "t4"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA RTX A6000", "rtx-a6000"),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "h100-mig-1g.10gb"),
        ("../../evil name", "evil-name"),
        ("cpu", "cpu"),
    ],
)
def test_folder_of_a_device(monkeypatch, name, slug):
    """The folder is named after the chip; makers, memory and sockets are left out, and it is one folder name."""
    monkeypatch.setattr(recordings, "device_name", lambda device: name)
    assert device_slug("cpu" if name == "cpu" else "cuda") == slug
    assert "/" not in slug


def test_names_in_words():
    """What is no torch device is named as the caller says."""
    assert device_name("simulated GPU") == "simulated GPU"
    assert device_slug("simulated GPU") == "simulated"


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([], "at least one"),
        ({"a": 1}, "list"),
        ("text", "list"),
        ([[1, 2]], "row 0"),
        ([{"a": 1}, {"b": [1]}], "row 1, 'b'"),
        ([{"a": {"b": 1}}], "flat"),
        ([{1: 2}], "flat"),
        ([{"a": float("nan")}], "nan"),
        ([{"a": torch.tensor(1.0)}], "Tensor"),
    ],
)
def test_rows_must_be_flat(tmp_path, rows, complaint):
    """Rows that are no list of flat dicts are refused, and nothing is written."""
    with pytest.raises(ValueError, match=complaint):
        write_recording("a", rows, command="c", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_name_is_no_path(tmp_path):
    """A name cannot leave its folder."""
    with pytest.raises(ValueError, match="name"):
        write_recording("../a", [{"n": 1}], command="c", folder=tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    """If writing breaks off, the recording from before is still whole."""
    path = write_recording("a", [{"n": 1}], command="c", folder=tmp_path)

    def broken(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", broken)
    with pytest.raises(UserError, match="disk full"):
        write_recording("a", [{"n": 2}], command="c", folder=tmp_path)
    assert read_recording(path)["rows"] == [{"n": 1}]
    assert [file.name for file in path.parent.iterdir()] == ["a.json"]


GOOD = {"device": "d", "torch": "t", "transformers": "t", "commit": "c", "command": "c", "rows": [{"n": 1}]}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "No such file"),
        ("{", "cannot be read"),
        ("[]", "lacks device"),
        (json.dumps({key: GOOD[key] for key in GOOD if key != "commit"}), "lacks commit"),
        (json.dumps({**GOOD, "rows": []}), "at least one"),
        (json.dumps({**GOOD, "rows": [[1]]}), "row 0"),
    ],
)
def test_unreadable_files_are_named(tmp_path, content, complaint):
    """A missing or broken recording is one line that names the file and the fault."""
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match="a.json") as caught:
        read_recording(path)
    assert complaint in str(caught.value) and "\n" not in str(caught.value)


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def test_the_commit(tmp_path, monkeypatch):
    """A changed file makes the commit dirty, a new recording or picture does not; outside git it is unknown."""
    monkeypatch.setattr(recordings, "ROOT", tmp_path)
    assert recordings._commit() == "unknown"
    (tmp_path / "figures" / "data" / "cpu").mkdir(parents=True)
    for name in ("figures/record.py", "figures/a.png", "figures/data/cpu/a.json"):
        (tmp_path / name).write_text("1")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "one")
    clean = recordings._commit()
    assert len(clean) == 12 and not clean.endswith("dirty")
    for name in ("figures/a.png", "figures/data/cpu/a.json"):
        (tmp_path / name).write_text("2")
    assert recordings._commit() == clean
    (tmp_path / "figures" / "record.py").write_text("2")
    assert recordings._commit() == clean + "-dirty"
