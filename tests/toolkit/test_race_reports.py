"""A race in a learner's engine: the report names the learner's own line, the batch's buffer, and what is misplaced."""

import importlib
import re
import shutil

import pytest
import torch

from tests.simulated import needs_simulator
from toolkit import course
from toolkit.commands.exercises.generate import fresh_files
from toolkit.commands.exercises.order import Order
from toolkit.commands.exercises.reporter import Reporter
from toolkit.files import write_whole

pytestmark = needs_simulator

RIGHT = """\
        # My own words, so that no line lies where the reference has it.
        with accelerator.stream(self.h2d):
            self.copy_in(batch, buffers)
            buffers.h2d_done.record()
        with accelerator.stream(self.compute):
            self.compute.wait_event(buffers.h2d_done)
            self.run(batch, buffers)
            buffers.compute_done.record()
        with accelerator.stream(self.d2h):
            self.d2h.wait_event(buffers.compute_done)
            self.copy_out(batch, buffers)
            buffers.d2h_done.record()
"""
STUB = '        raise NotImplementedError("ch04 exercise 1: Say what must come first on the device")\n'
FILE = "my/ch04_events/event_executor.py"


@pytest.fixture
def solve(tmp_path, restore_choice, monkeypatch):
    """Solve exercise 4.1 in a copy of the course, with changes to RIGHT; gives the first races of one batch there."""
    from toolkit import device, simgpu
    from toolkit.report_lines import rank_of

    shutil.copytree(course.ROOT / "solutions", tmp_path / "solutions")
    stubs = fresh_files()
    for name, text in stubs.items():
        write_whole(tmp_path / "my" / name, text)
    path = tmp_path / FILE

    def races(*changes):
        body = RIGHT
        for old, new in changes:
            assert old in body
            body = body.replace(old, new)
        text = stubs[FILE.removeprefix("my/")]
        assert STUB in text
        path.write_text(text.replace(STUB, body))
        course.use("mine", "ch04", fill=True, root=tmp_path)
        simgpu.report_lines(tmp_path, rank_of, skip=[course.ROOT / "toolkit"])
        return queue_one_batch(), path.read_text().splitlines()

    assert device.accelerator is simgpu  # asked for the first time it says where the course lies
    yield races
    simgpu.report_lines(course.ROOT, rank_of, skip=[course.ROOT / "toolkit"])


def queue_one_batch():
    """The races of one batch that is launched, waited for and read, as texts."""
    from tests.helpers import tiny_model
    from toolkit import simgpu

    build = importlib.import_module("ch04_events.build").build
    params = importlib.import_module("ch02_continuous_batching").SamplingParams()
    simgpu.reset("lazy", on_race="collect")
    torch.manual_seed(0)
    engine = build(tiny_model(), num_blocks=20)
    engine.add_request("a", [5, 6, 7], params)
    engine.step()
    return [str(race) for race in simgpu.races()]


def line_of(lines, text):
    """Such as "my/ch04_events/event_executor.py:61"."""
    (number,) = [number for number, line in enumerate(lines, 1) if line.strip() == text]
    return f"{FILE}:{number}"


def test_the_learners_own_line_comes_first_with_its_folder(solve):
    """The helper's line comes behind it, with its folder, and every line quoted is there."""
    (report, *_), lines = solve(("            self.compute.wait_event(buffers.h2d_done)\n", ""))
    first, second = line_of(lines, "self.copy_in(batch, buffers)"), line_of(lines, "self.run(batch, buffers)")
    assert re.search(
        rf"1st writes: H2D copy on h2d at {first}  `self.copy_in\(batch, buffers\)`\n"
        r"      inside: solutions/ch03_streams/io_buffers\.py:\d+  `.*copy_.*`\n"
        rf"  2nd reads: forward on compute at {second}  `self.run\(batch, buffers\)`\n"
        r"      inside: solutions/ch03_streams/stream_executor\.py:\d+  `.*`\n",
        report,
    ), report
    quoted = re.findall(r"(\S+\.py):(\d+)  `(.*)`", report)
    assert len(quoted) == 5
    for file, number, text in quoted:
        there = lines if file == FILE else (course.ROOT / file).read_text().splitlines()
        assert there[int(number) - 1].strip() == text


def test_an_unsolved_exercise_is_named_by_the_references_file(solve):
    """Exercise 4.2 runs as the reference, whose lines lie elsewhere: its file is named, and never the learner's."""
    (report,), lines = solve(("            buffers.d2h_done.record()\n", ""))
    assert f"1st writes: D2H copy on d2h at {line_of(lines, 'self.copy_out(batch, buffers)')}" in report
    (found,) = re.findall(r"Found: .*: (\S+):(\d+)  `(.*)`", report)
    assert found[0] == "solutions/ch04_events/event_executor.py"
    reference = (course.ROOT / found[0]).read_text().splitlines()
    assert reference[int(found[1]) - 1].strip() == found[2] == "buffers.d2h_done.synchronize()"


@pytest.mark.parametrize(
    "changes, buffer",
    [
        ([("            self.compute.wait_event(buffers.h2d_done)\n", "")], r"input_ids of the buffers of batch 0 \("),
        (
            [("            self.d2h.wait_event(buffers.compute_done)\n", "")],
            r"sampled ids of the buffers of batch 0 \(",
        ),
        (
            [("            buffers.d2h_done.record()\n", "")],
            r"sampled ids of the buffers of batch 0 \(\(1,\) int64, pinned",
        ),
    ],
)
def test_buffers_are_named(solve, changes, buffer):
    """The name of the input, and the batch that it belongs to."""
    (report, *_), _ = solve(*changes)
    assert re.match(f"RACE on {buffer}", report), report


OUTSIDE = ("            buffers.compute_done.record()\n", "        buffers.compute_done.record()\n")
WAIT = "            self.compute.wait_event(buffers.h2d_done)\n"
RUN = "            self.run(batch, buffers)\n"
MISTAKES = {
    "recorded outside the with": (
        [OUTSIDE],
        "d2h did wait for an event that was recorded after the first, but on default, not on compute",
        "buffers.compute_done.record()",
    ),
    "the wait behind the work": (
        [(WAIT + RUN, RUN + WAIT)],
        "compute does wait for the event behind the first, but only after the second",
        "self.compute.wait_event(buffers.h2d_done)",
    ),
    "the wait on the wrong stream": (
        [("self.d2h.wait_event(buffers.compute_done)", "self.h2d.wait_event(buffers.compute_done)")],
        "h2d waits for the event behind the first, and has been given nothing since; d2h does not wait for it",
        "self.h2d.wait_event(buffers.compute_done)",
    ),
    "the wrong event": (
        [("self.d2h.wait_event(buffers.compute_done)", "self.d2h.wait_event(buffers.h2d_done)")],
        "d2h did wait, but for an event recorded on h2d",
        "buffers.h2d_done.record()",
    ),
    "never recorded": (
        [("            buffers.h2d_done.record()\n", "")],
        "compute did wait for an event, but for one that was never recorded, which is no wait",
        "self.compute.wait_event(buffers.h2d_done)",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_usual_mistake_is_diagnosed_with_its_line(solve, mistake):
    """What was recorded or waited for in the wrong place, and the learner's line that did it."""
    changes, says, line = MISTAKES[mistake]
    (report, *_), lines = solve(*changes)
    assert re.search(f"  Found: {re.escape(says)}(:|, at) {line_of(lines, line)}  `{re.escape(line)}`", report), report


def test_a_race_is_not_called_an_error_of_the_test():
    """A test that runs into a RaceError without a line of the learner's adds no advice of its own to the report."""
    from toolkit import simgpu

    reporter = Reporter(Order(course.ROOT, "mine", ()), None, None)
    simgpu.reset("lazy")
    x = torch.zeros(4, device="sim")
    with pytest.raises(simgpu.RaceError) as caught, simgpu.stream(simgpu.Stream(name="a")):
        x.add_(1)
    message, where = reporter.explain(caught.value)
    assert message == f"RaceError: {caught.value}" and where == ""
    with pytest.raises(ValueError) as other:
        raise ValueError("no race")
    assert "raised by the test itself" in reporter.explain(other.value)[0]


def test_the_right_answer_has_no_report(solve):
    assert solve()[0] == []
