"""What a report says: names of tensors, lines of source."""

import importlib.util
import linecache
import re
from pathlib import Path

import pytest
import torch

from toolkit import simgpu

HELPER = "def fill(x):\n    x.fill_(1)\n"
OWN = "import helper\n\n\ndef run(x):\n    helper.fill(x)  # mine\n"


@pytest.fixture
def x():
    simgpu.reset("lazy", on_race="collect")
    made = torch.zeros(4, 8, device="sim")
    simgpu.synchronize()
    return made


def race_on(write, read):
    """The buffer of the only race between a write on one stream and a read on another."""
    with simgpu.stream(simgpu.Stream(name="a")):
        write.fill_(1)
    with simgpu.stream(simgpu.Stream(name="b")):
        read.sum()
    return simgpu.races()[-1].buffer


def test_without_a_name_a_buffer_is_its_shape_dtype_and_place(x):
    assert race_on(x, x) == "(4, 8) float32 buffer (device)"


@pytest.mark.parametrize("of, words", [("", "weights"), ("batch 3", "weights of batch 3")])
def test_a_named_buffer(x, of, words):
    simgpu.name_tensors({"weights": x}, of)
    assert race_on(x, x) == f"{words} ((4, 8) float32, device)"
    assert str(simgpu.races()[0]).startswith(f"RACE on {words} ((4, 8) float32, device)\n  1st writes: fill_ on a at ")


def test_views_have_the_name_of_what_they_are_part_of(x):
    simgpu.name_tensors({"weights": x})
    assert race_on(x, x[1:3, 2:]) == "weights ((2, 6) float32, device)"


def test_a_view_with_a_name_of_its_own_keeps_it(x):
    simgpu.name_tensors({"all": x, "ids": x[:2], "lengths": x[2:]}, "batch 1")
    assert race_on(x, x[3]) == "lengths of batch 1 ((8,) float32, device)"
    assert race_on(x[0], x) == "ids of batch 1 ((8,) float32, device)", "the narrower of the two"


def test_one_buffer_for_many_named_parts(x):
    simgpu.name_tensors({name: x[place] for place, name in enumerate("abcd")}, "batch 1")
    assert race_on(x, x) == "a, b and 2 more of batch 1 ((4, 8) float32, device)"
    assert race_on(x[:2], x[:2]) == "a and b of batch 1 ((2, 8) float32, device)"


def test_a_buffer_that_has_gone_over_to_another_batch(x):
    simgpu.name_tensors({"ids": x}, "batch 1")
    with simgpu.stream(simgpu.Stream(name="a")):
        x.sum()
    simgpu.name_tensors({"ids": x}, "batch 3")
    with simgpu.stream(simgpu.Stream(name="b")):
        x.fill_(2)
    assert simgpu.races()[0].buffer == (
        "ids of batch 3, in use for batch 1 when the first was queued ((4, 8) float32, device)"
    )


def test_a_name_ends_with_its_tensor(x):
    y = torch.zeros(999, device="sim")
    simgpu.name_tensors({"old": y})
    simgpu.synchronize()
    address = y.data_ptr()
    del y
    z = torch.zeros(999, device="sim")
    assert z.data_ptr() == address
    simgpu.synchronize()
    assert race_on(z, z) == "(999,) float32 buffer (device)"


def test_pinned_tensors_have_names_and_ordinary_ones_are_passed_over(x):
    host = torch.zeros(4, 8, pin_memory=True)
    simgpu.name_tensors({"ids": host, "plain": torch.zeros(3)}, "batch 2")
    with simgpu.stream(simgpu.Stream(name="a")):
        host.copy_(x, non_blocking=True)
    host[1].tolist()
    assert simgpu.races()[0].buffer == "ids of batch 2 ((8,) float32, pinned)"


def test_errors_use_the_names_too(x):
    simgpu.name_tensors({"weights": x})
    simgpu.launch("box", lambda given: given.add_(1), [x])
    with pytest.raises(simgpu.DeviceError, match="'box' writes weights, which it declares as read only"):
        simgpu.synchronize()


# --- lines of source -------------------------------------------------------------------------------------------------


@pytest.fixture
def two_files(tmp_path, monkeypatch):
    """A file of the reader's, lines/own.py, that calls lib/helper.py; gives its function `run`."""
    from toolkit.simgpu import sites

    loaded = {}
    for folder, name, text in (("lib", "helper", HELPER), ("lines", "own", OWN)):
        path = tmp_path / folder / f"{name}.py"
        path.parent.mkdir()
        path.write_text(text)
        spec = importlib.util.spec_from_file_location(name, path)
        loaded[name] = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(__import__("sys").modules, name, loaded[name])
        spec.loader.exec_module(loaded[name])
    before = sites._Lines.root, sites._Lines.rank, sites._Lines.skipped
    yield tmp_path, loaded["own"].run
    sites._Lines.root, sites._Lines.rank, sites._Lines.skipped = before


def report(run, x):
    for name in "ab":
        with simgpu.stream(simgpu.Stream(name=name)):
            run(x)
    return str(simgpu.races()[0])


def test_the_line_that_called_is_named_with_its_path(two_files, x):
    root, run = two_files
    simgpu.report_lines(root, lambda file: 0)
    assert "1st writes: fill_ on a at lib/helper.py:2  `x.fill_(1)`\n  2nd" in report(run, x)


def test_a_line_of_a_file_that_matters_more_comes_first(two_files, x):
    root, run = two_files
    simgpu.report_lines(root, lambda file: int("lines" in Path(file).parts))
    text = report(run, x)
    for place in ("1st writes: fill_ on a", "2nd writes: fill_ on b"):
        assert (
            f"{place} at lines/own.py:5  `helper.fill(x)  # mine`\n      inside: lib/helper.py:2  `x.fill_(1)`\n"
            in text
        )


def test_lines_of_a_folder_to_skip_are_passed_over(two_files, x):
    root, run = two_files
    simgpu.report_lines(root, lambda file: 0, skip=[root / "lib"])
    assert "1st writes: fill_ on a at lines/own.py:5  `helper.fill(x)  # mine`\n  2nd" in report(run, x)


def test_files_found_by_a_way_round(tmp_path, monkeypatch, x):
    """A notebook finds packages by a path such as "../..", and their frames carry it: the names are the plain ones."""
    folder = tmp_path / "lib"
    folder.mkdir()
    (folder / "helper.py").write_text(HELPER)
    spec = importlib.util.spec_from_file_location("helper", tmp_path / "lib" / ".." / "lib" / "helper.py")
    helper = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, "helper", helper)
    spec.loader.exec_module(helper)
    from toolkit.simgpu import sites

    before = sites._Lines.root, sites._Lines.rank, sites._Lines.skipped
    simgpu.report_lines(tmp_path, lambda file: 0)
    seen = report(helper.fill, x)
    sites._Lines.root, sites._Lines.rank, sites._Lines.skipped = before
    assert "at lib/helper.py:" in seen, seen


def test_of_several_such_lines_the_one_of_the_highest_rank_comes_first(two_files, x):
    root, run = two_files
    simgpu.report_lines(root, lambda file: 2 if "lines" in Path(file).parts else int("lib" in Path(file).parts))
    assert "at lines/own.py:5" in report(run, x)


def test_of_several_lines_of_one_rank_the_innermost_comes_first(two_files, x):
    root, run = two_files
    simgpu.report_lines(root, lambda file: int(Path(file).is_relative_to(root)))
    text = report(run, x)
    assert "at lib/helper.py:2" in text and "own.py" not in text


def test_files_outside_the_root_are_named_in_full_and_packages_by_their_name(x):
    simgpu.launch("box", lambda: None)
    from transformers.activations import GELUActivation

    GELUActivation()(x)
    with simgpu.stream(simgpu.Stream(name="b")):
        x.fill_(1)
    race = simgpu.races()[0]
    assert re.search(r"gelu on default at transformers/activations\.py:\d+  `", str(race)), str(race)
    assert linecache.getline(race.first.site.file, race.first.site.line).strip() in str(race)
