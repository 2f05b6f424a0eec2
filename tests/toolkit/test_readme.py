"""The README's numbers are those of the recordings, and it names nothing that is not there."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from figures.ch04 import draw as ch04
from figures.ch07 import draw as ch07
from figures.ch07.record import per_step
from tests.run_make import run_make
from tests.simulated import needs_simulator
from toolkit.course import ROOT, chapter_names
from toolkit.recordings import DATA, read_recording
from toolkit.timeline import Recording, steady

README = (ROOT / "README.md").read_text(encoding="utf-8")


def rows(name: str, card: str = "h100") -> list[dict]:
    return read_recording(DATA / card / f"{name}.json")["rows"]


# The pictures at the top of the README, by the recording that each is drawn from.
PICTURES = {"ch04_steps": ch04.steps, "ch07_steps": ch07.steps}


def picture_row(name: str, requests: int) -> dict[str, float]:
    """The numbers of the run that a timeline picture shows."""
    recording = read_recording(DATA / "h100" / f"{name}.json")
    timeline = steady(Recording.from_rows(recording["rows"], recording["device"]))
    return per_step(timeline, requests) | {"idle_share": timeline.idle_share()}


@pytest.mark.parametrize(("name", "line"), [("ch04_steps", "chapter 4: events"), ("ch07_steps", "chapter 7: carry")])
def test_pictures_and_table_say_the_same(name, line):
    """The idle share in a picture's title is the one in the table's line of that chapter."""
    picture = PICTURES[name](read_recording(DATA / "h100" / f"{name}.json"))
    shown = re.search(r"device idle ([\d.]+ %)", picture.axes[0].get_title(loc="left"))
    in_table = re.search(rf"^\| {line}[^|]*\| ([\d.]+ %) \|", README, re.M)
    assert f"(figures/{name}.png)" in README
    assert shown and in_table and shown[1] == in_table[1]


def test_the_pictures_at_the_top_share_their_time_axis():
    """Both show the same length of time, with the same marks, at the same places of the page."""
    first, second = (draw(read_recording(DATA / "h100" / f"{name}.json")).axes[0] for name, draw in PICTURES.items())
    assert first.get_xlim() == pytest.approx(second.get_xlim())
    assert list(first.get_xticks()) == list(second.get_xticks())
    assert first.get_position().bounds == pytest.approx(second.get_position().bounds, abs=0.002)


def test_the_table_of_engines_is_that_of_the_recordings():
    """Each line of the table of this course's engines is made of the recorded numbers."""
    chapter4 = {row["engine"]: row for row in rows("ch04_engines")}
    (double,) = [
        r for r in rows("ch05_price") if (r["model"], r["requests"], r["engine"]) == ("8b", 32, "two half batches")
    ]
    carried = {r["engine"]: r for r in rows("ch07_engines") if (r["model"], r["requests"]) == ("8b", 32)}
    wrong = carried["two half batches"]["wrong_share"]
    events = chapter4["three streams and events"]
    for label, row in {
        "one stream, the host waits": chapter4["one stream"],
        "chapter 3: three streams, no order": chapter4["three streams"],
        "chapter 4: events": events | picture_row("ch04_steps", 32),
        "chapter 5: two in flight, half batches": double | {"wrong_share": wrong},
        "chapter 7: carry-over, all requests in every batch": carried["asynchronous"] | picture_row("ch07_steps", 32),
    }.items():
        line = (
            f"| {label} | {row['idle_share'] * 100:.1f} % | {row['ms_per_step']:.1f} | {row['tokens_per_s']:.0f} "
            f"| {row['wrong_share'] * 100:.0f} % |"
        )
        assert line in README, f"recorded: {line}"
    (once,) = [
        r for r in rows("ch05_price") if (r["model"], r["requests"], r["engine"]) == ("8b", 32, "one batch at a time")
    ]
    again = f"took {once['ms_per_step']:.1f} and {carried['one batch at a time']['ms_per_step']:.1f} ms a step"
    assert again in " ".join(README.split()), f"recorded: {again}"


def test_the_comparison_is_that_of_the_recordings():
    """Each line of the table beside transformers is made of the recorded numbers: 1,024 new tokens, both shapes."""
    seen = {
        (r["model"], r["engine"], r["mode"], r["compiled"]): r
        for r in rows("peers")
        if (r["workload"], r["new_tokens"], r["beside_vllm"]) == ("equal", 1024, False)
    }
    for label, key in {
        "transformers, synchronous": ("transformers", "sync", False),
        "transformers, asynchronous": ("transformers", "async", False),
        "this course, synchronous": ("ours", "sync", False),
        "this course, asynchronous": ("ours", "async", False),
        "this course, synchronous, compiled": ("ours", "sync", True),
        "this course, asynchronous, compiled": ("ours", "async", True),
    }.items():
        large, small = seen["8b", *key], seen["1b", *key]
        line = (
            f"| {label} | {large['tokens_per_s']:.0f} | {large['ms_per_step']:.1f} "
            f"| {small['tokens_per_s']:.0f} | {small['ms_per_step']:.1f} "
            f"| {small['gpu_active'] * 100:.1f} % | {small['kernel_active'] * 100:.1f} % |"
        )
        assert line in README, f"recorded: {line}"


def test_the_lines_beside_vllm_are_recorded():
    """Each number is the quicker of vLLM in one process and in two; so are its rounds and its kernels."""
    text = " ".join(README.split())
    beside = [r | {"card": card} for card in ("h100", "h200") for r in rows("peers", card) if r["beside_vllm"]]
    columns = (("ours", "async"), ("vllm", "async"), ("vllm", "sync"), ("transformers", "async"))
    for case in {tuple(r[key] for key in ("card", "model", "batch", "new_tokens")) for r in beside}:
        mine = [r for r in beside if tuple(r[key] for key in ("card", "model", "batch", "new_tokens")) == case]
        speeds = [[r["tokens_per_s"] for r in mine if (r["engine"], r["mode"]) == column] for column in columns]
        cells = "".join(f" {max(speed):.0f} |" if speed else " |" for speed in speeds)
        card, model, batch, new_tokens = case
        label = f"{model.upper()}, {batch} and {new_tokens}" + ", on an H200" * (card == "h200")
        assert f"| {label} |{cells}" in README, f"recorded: | {label} |{cells}"
        assert len({(r.get("commit"), r.get("command")) for r in mine}) == 1, "what is compared ran in one call"
    in_one_process = {
        (r["model"], r["batch"]): r
        for r in beside
        if (r["card"], r["engine"], r["mode"], r["processes"], r["new_tokens"]) == ("h100", "vllm", "async", 1, 256)
    }
    busy = {key: f"{row['kernel_active'] * 100:.0f} %" for key, row in in_one_process.items()}
    said = f"a kernel runs for {busy['1b', 32]} of the time at 32 rows, and for {busy['1b', 256]} at 256"
    assert said in text, f"recorded: {busy}"
    assert f"With the 8B shape it is not ({busy['8b', 32]})" in text, f"recorded: {busy}"
    rounds = sorted(float(speed) for speed in in_one_process["1b", 512]["tokens_per_s_rounds"].split())
    between = f"with 512 rows of the 1B shape lay between {rounds[0]:.0f} and {rounds[-1]:.0f}"
    assert between in text, f"recorded: {rounds}"
    assert {r["version"].partition(",")[0] for r in beside if r["engine"] == "vllm"} == {"vllm 0.26.0"}


def test_http_and_two_gpus_are_recorded():
    """What 64 streams leave of the speed in process, and how many times one engine's speed two of them have."""
    text = " ".join(README.split())
    speed = {(r["model"], r["way"]): r["steady_tokens_per_s"] for r in rows("ch10_http")}
    left = {model: 100 * speed[model, "HTTP, streams"] / speed[model, "in process"] for model in ("1b", "8b")}
    line = f"64 streams at a time leave {left['1b']:.0f} % with the 1B shape and {left['8b']:.0f} % with the 8B shape"
    assert line in text, f"recorded: {left}"
    run = {(r["model"], r["rows"], r["replicas"]): r for r in rows("several_gpus")}
    gain = {m: run[m, 256, 2]["tokens_per_s"] / run[m, 256, 1]["tokens_per_s"] for m in ("1b", "8b")}
    assert f"{gain['8b']:.2f} times the tokens per second of one with the 8B shape" in text, f"recorded: {gain}"
    assert f"{gain['1b']:.2f} times with the 1B shape" in text, f"recorded: {gain}"
    assert f"where a whole run takes {run['1b', 256, 1]['seconds']:.1f} s" in text


def test_the_price_and_how_it_is_lifted_are_recorded():
    """The throughputs of the 1B shape with 128 requests are the recorded ones, and say what the README says of them."""
    seen = {r["engine"]: r["tokens_per_s"] for r in rows("ch07_engines") if (r["model"], r["requests"]) == ("1b", 128)}
    one, half, carry = seen["one batch at a time"], seen["two half batches"], seen["asynchronous"]
    text = " ".join(README.split())
    (idle,) = [
        r["idle_share"]
        for r in rows("ch07_engines")
        if (r["model"], r["requests"], r["engine"]) == ("1b", 128, "one batch at a time")
    ]
    assert f"the device idles for {idle * 100:.0f} % of the time without it" in text, f"recorded: {idle}"
    assert f"{one:.0f} with one batch in flight, {half:.0f} with two half batches" in text, f"recorded: {seen}"
    assert f"lifts that price (there: {carry:.0f})" in text, f"recorded: {seen}"
    assert half < one < carry


def test_the_slower_host_is_not_hidden():
    """What a slower host does to chapter 9's engine at 32 rows is said beside the picture of a quicker one."""
    at_32_rows = [r for r in rows("ch09_slow_host") if (r["engine"], r["rows"]) == ("chapter 9", 32)]
    slow = {row["model"]: row["idle_share"] for row in at_32_rows}
    said = f"idled for {slow['1b'] * 100:.1f} % and {slow['135m'] * 100:.1f} % at 32 rows"
    assert said in " ".join(README.split()), f"recorded: {slow}"


def test_the_five_mistakes_are_those_of_the_documentation():
    """The README's table of mistakes repeats what docs/simulator.md measured on the H100."""
    docs = (ROOT / "docs" / "simulator.md").read_text(encoding="utf-8")
    measured = re.findall(r"^\| ([^|]+) \| (\d of 5) \| (\d of 5) \| ([^|]+) \|$", docs, re.M)
    assert len(measured) == 6
    for mistake, small, large, sanitizer in measured:
        ours = "nothing" if mistake.startswith("none") else "reports it"
        assert f"| {mistake} | {small} | {large} | {sanitizer} | {ours} |" in README


@needs_simulator
def test_the_race_reports_example_prints_what_is_shown(tmp_path):
    """As a program of its own, beside the toolkit."""
    program, report = re.search(
        r"```python\n(import torch\nfrom toolkit import simgpu.*?)```\n\n(    RACE.*?)\n\n", README, re.S
    ).groups()
    (tmp_path / "example.py").write_text(program, encoding="utf-8")
    (tmp_path / "toolkit").symlink_to(ROOT / "toolkit", target_is_directory=True)
    done = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["1.0", *textwrap.dedent(report).splitlines()], done.stderr


def test_what_is_long_has_a_command_of_its_own():
    """make test leaves out exactly what make test-long runs, CI runs both, and the README says so."""

    def command(target):
        return run_make("-n", target).stdout.splitlines()[-1]

    assert command("test").replace("-m 'not long and not slow'", "-m 'long or slow'") == command("test-long")
    ci = (ROOT / ".ci" / "run").read_text().splitlines()
    assert ci.index("make test") < ci.index("make test-long")
    assert "`make test-long`" in README


def test_links_lead_somewhere_and_every_chapter_is_on_the_map():
    """Files that the README links to exist, and no chapter is missing."""
    links = re.findall(r"\]\(([^)#]+)\)", README)
    missing = [link for link in links if not (ROOT / link).exists()]
    assert not missing, f"the README links to {missing}"
    chapters = [name for name in chapter_names() if f"chapters/{name}/lesson.ipynb" not in README]
    assert [name for name in chapters if (ROOT / "chapters" / name / "lesson.ipynb").exists()] == []
    assert [name for name in chapters if f"| {int(name[2:4])} {name[5:]} (" not in README] == [], (
        "on the map, no lesson"
    )
    assert Path(ROOT / "LICENSE").is_file()
