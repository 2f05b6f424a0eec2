"""The comparison with transformers: what is asked, what is counted, and how rows of several calls become one file."""

import json
import math
import re
from dataclasses import replace

import pytest
from matplotlib.figure import Figure

from figures.draw import draw_all
from figures.peers import draw as peers
from toolkit.commands.bench import cases
from toolkit.commands.bench.activity import share_of_trace, steady_shares
from toolkit.commands.bench.board import NAME, Board, row_key
from toolkit.commands.bench.cases import Case, make_cases, poisson_arrivals
from toolkit.commands.bench.compare import Comparison
from toolkit.commands.bench.engine_runner import NAMES, EngineSpec, Models, NotHere
from toolkit.commands.bench.floor import step_bytes
from toolkit.commands.bench.measured import Activity, Measured, Run, agreement
from toolkit.commands.bench.report import gains, table
from toolkit.commands.bench.targets import targets
from toolkit.errors import UserError
from toolkit.models import load_model
from toolkit.recordings import DATA, read_recording
from toolkit.timeline import Recording
from toolkit.timeline.recording import Span

OURS, THEIRS = EngineSpec.named("ours-async"), EngineSpec.named("transformers-sync")
SMALL = Case("tiny", "equal", 4, 259, smoke=True)


def run(step_s: float = 0.5, tokens: int = 4, first: int = 7, requests: int = 4) -> Run:
    """Requests due at 10 s that get a token each `step_s`; `first` is their first token, then 1s."""
    stamps = [[10 + step_s * (i + 1) for i in range(tokens)] for _ in range(requests)]
    return Run([[first] + [1] * (tokens - 1)] * requests, stamps, [10.0] * requests, steps=tokens + 1)


# --- what is asked ---


def test_every_engine_is_asked_the_same():
    """Prompts, lengths and arrival times depend on the case alone, and arrivals are a seeded Poisson process."""
    one, two = (Case("8b", "ragged", 512, 128256) for _ in range(2))
    assert one.items == two.items and one.arrivals == two.arrivals
    assert one.arrivals[0] == 0 and one.arrivals == sorted(one.arrivals)
    gaps = [b - a for a, b in zip(poisson_arrivals(4000, 16.0), poisson_arrivals(4000, 16.0)[1:], strict=False)]
    mean = sum(gaps) / len(gaps)
    spread = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert abs(mean * 16 - 1) < 0.1 and abs(spread / mean - 1) < 0.1, f"gaps: mean {mean}, spread {spread}"


def test_lengths_of_the_workloads():
    """Equal: all alike and never ended early. Ragged: 32 to 512, ended by some tokens. Mixed: never ended early."""
    equal, ragged = Case("8b", "equal", 256, 128256), Case("8b", "ragged", 512, 128256)
    assert {(len(item.prompt_ids), item.max_tokens) for item in equal.items} == {(64, 256)}
    assert not equal.eos_ids and set(equal.arrivals) == {0.0} and equal.longest == 320
    lengths = [len(item.prompt_ids) for item in ragged.items] + [item.max_tokens for item in ragged.items]
    assert min(lengths) >= 32 and max(lengths) <= 512 and len(set(lengths)) > 64
    assert len(ragged.eos_ids) == math.ceil(128256 / cases.EOS_ONE_IN)
    mixed = Case("8b", "mixed", 256, 128256, batch=256)
    assert len(mixed.items) == 3 * 256 and not mixed.eos_ids and set(mixed.arrivals) == {0.0}
    for lengths, longest in (
        ([len(item.prompt_ids) for item in mixed.items], 64),
        ([item.max_tokens for item in mixed.items], 256),
    ):
        assert (min(lengths), max(lengths)) == (longest // 4, longest)


def test_order_of_the_cases():
    """The longest length comes first; ragged and article are run with the first model only."""
    made = make_cases(["8b", "1b"], ["article", "ragged", "equal"], [256, 1024], {"8b": 9, "1b": 9})
    assert [(case.model, case.workload, case.new_tokens) for case in made] == [
        ("8b", "equal", 1024),
        ("8b", "equal", 256),
        ("8b", "ragged", 512),
        ("1b", "equal", 1024),
        ("1b", "equal", 256),
        ("8b", "article", 8192),
    ]


def test_cases_of_several_rows():
    """The most rows first, then the longest; a step has room for a chunk of prompts beside all rows."""
    made = make_cases(["8b"], ["equal", "ragged", "mixed"], [256, 1024], {"8b": 9}, [32, 512])
    assert [(case.workload, case.rows, case.new_tokens) for case in made] == [
        ("equal", 512, 1024),
        ("equal", 512, 256),
        ("mixed", 512, 256),
        ("equal", 32, 1024),
        ("equal", 32, 256),
        ("mixed", 32, 256),
        ("ragged", 32, 512),
    ]
    assert {len(case.items) for case in made if case.workload == "equal"} == {32, 512}
    assert [case.token_budget for case in (made[0], made[3])] == [2048, 512]
    assert str(made[0]) == "8b, equal, 512 rows, 1024 new tokens"


def test_names_of_the_engines():
    """Each name means one engine, and says so again; an unknown one is refused in one line."""
    assert [str(EngineSpec.named(name)) for name in NAMES] == list(NAMES)
    assert len({EngineSpec.named(name) for name in NAMES}) == len(NAMES)
    with pytest.raises(UserError, match="no engine 'vllm'; there are ours-sync"):
        EngineSpec.named("vllm")


# --- what is counted ---


def test_numbers_of_a_run():
    """Throughput from the first request due to the last token; latencies from the tokens' moments."""
    late = Run([[1, 2], [3]], [[12.0, 12.25], [13.0]], [10.0, 11.5], steps=5)
    assert (late.tokens, late.seconds, late.tokens_per_s) == (3, 3.0, 1.0)
    assert late.ttft_ms == [2000.0, 1500.0] and late.itl_ms == [250.0]
    with pytest.raises(RuntimeError, match="request 1: 1 tokens and 0 moments"):
        Run([[1], [2]], [[1.0], []], [0.0, 0.0], 1)


def test_medians_over_the_rounds():
    """A slow round does not count; each round's value is kept; a step is a token of each request, or the own count."""
    measured = Measured([run(0.5), run(0.25), run(5.0)])
    numbers = measured.numbers(4, equal=True)
    assert numbers["rounds"] == 3 and numbers["tokens"] == 16
    assert (numbers["seconds"], numbers["tokens_per_s"], numbers["ms_per_step"]) == (2.0, 8.0, 500.0)
    assert (numbers["ttft_ms"], numbers["itl_ms"]) == (500.0, 500.0)
    assert numbers["tokens_per_s_rounds"] == "8.0 16.0 0.8"
    assert measured.numbers(4, equal=False)["ms_per_step"] == 400.0, "5 forwards in 2 s"


def test_agreement():
    """Agreement counts positions, and where requests part."""
    assert agreement([[1, 2, 3], [4, 5, 6]], [[1, 2, 3], [4, 9, 9]]) == {"same_tokens": 0.6667, "first_difference": 1}
    assert agreement([[1, 2]], [[1, 2]]) == {"same_tokens": 1.0, "first_difference": None}


def test_kernel_share_is_a_union_over_an_explicit_window():
    """Kernels that overlap count once, what lies outside counts not, and host events never."""

    def event(start, length, stream=7, category="kernel"):
        return {"ph": "X", "cat": category, "ts": start, "dur": length, "tid": stream}

    # Of the window from 10 to 90: 10 to 40 (two streams at once) and 60 to 90 are busy, so 60 of 80.
    events = [
        event(0, 30),
        event(20, 20, 13),
        event(25, 10, 13, "gpu_memcpy"),
        event(60, 40),
        event(40, 20, 1, "cpu_op"),
    ]
    assert share_of_trace([*events, {"ph": "M", "name": "thread"}]) == 0.75
    assert share_of_trace([event(0, 10, category="cpu_op")]) is None


def test_gpu_active_is_taken_from_forward_to_forward():
    """10 ms from forward to forward, 8 of them on the device, 3 of host work besides the wait; copies do not count."""
    spans = []
    for step in range(8):
        start = step * 0.010
        spans += [
            Span("forward", "compute", start, start + 0.008, step),
            Span("copy in", "h2d", start + 0.008, start + 0.010, step),
            Span("prepare", "host", start - 0.007, start - 0.005, step),
            Span("wait", "host", start + 0.001, start + 0.003, step),
            Span("commit", "host", start + 0.009, start + 0.010, step),
        ]
    seen = steady_shares(Recording(tuple(spans)))
    assert (seen.gpu_active, seen.device_ms, seen.host_ms) == (0.8, 8.0, 3.0), seen


def test_floor_counts_each_weight_once():
    """Weights without an input embedding of its own, and keys and values of every row."""
    model = load_model("tiny").model
    weights = sum(p.numel() for name, p in model.named_parameters() if "embed_tokens" not in name) * 4
    per_token = 2 * 2 * 2 * 32 * 4  # keys and values, layers, heads of keys, their size, bytes
    assert step_bytes(model, rows=3, context=10.0) == weights + 30 * per_token


# --- the file ---


def board(folder, only_missing=False, clock="cuda", command="make bench"):
    return Board(command, "simulated GPU", folder, only_missing, None, clock)


def test_calls_build_one_file(tmp_path):
    """A later call keeps the rows of earlier ones, with where they come from, and replaces what it measured again."""
    first = board(tmp_path, command="make bench BENCH='--model 8b'")
    for who in (OURS, THEIRS):
        first.add(SMALL, who, "kernel", run(0.5))
    first.write()
    second = board(tmp_path, command="make bench BENCH='--model 1b'")
    second.add(SMALL, OURS, "kernel", run(0.25))
    second.activities["tiny", 4, THEIRS] = Activity(kernel_active=0.9)
    rows = {row["engine"]: row for row in read_recording(second.write())["rows"]}
    assert len(rows) == 2 and rows["ours"]["tokens_per_s"] == 16.0, "measured again"
    assert rows["transformers"]["tokens_per_s"] == 8.0 and rows["transformers"]["kernel_active"] == 0.9
    assert rows["transformers"]["command"] == "make bench BENCH='--model 8b'" and "command" not in rows["ours"]
    assert rows["ours"]["same_tokens"] is None, "nothing to compare with in that call"
    other = board(tmp_path, clock="none: smoke test")
    assert other.earlier == [], "a smoke test and a measurement are never in one file"


def test_only_what_is_missing(tmp_path):
    """--only-missing leaves out what has enough rounds, and still looks how busy the GPU was if no row says so."""
    first = board(tmp_path)
    first.add(SMALL, OURS, "kernel", run())
    first.write()
    again = board(tmp_path, only_missing=True)
    assert not again.wants(SMALL, OURS, rounds=1)
    assert again.wants(SMALL, OURS, rounds=2) and again.wants(SMALL, THEIRS, rounds=1)
    assert board(tmp_path).wants(SMALL, OURS, rounds=1)
    assert again.wants_activity(SMALL, OURS) and not again.wants_activity(SMALL, THEIRS)
    again.activities["tiny", 4, OURS] = Activity(0.99, 0.9)
    again.write()
    assert not board(tmp_path, only_missing=True).wants_activity(SMALL, OURS)


def test_activity_belongs_to_the_rows_it_was_measured_with(tmp_path):
    """Of one engine and model, each number of rows has its own; no profiler sees a second process."""
    made = board(tmp_path)
    many = Case("tiny", "equal", 4, 259, batch=5)
    for case in (SMALL, many):
        made.add(case, OURS, "kernel", run(requests=case.rows))
        made.add(case, EngineSpec.named("vllm-async-split"), "kernel", run(requests=case.rows))
    made.activities["tiny", 5, OURS] = Activity(0.9, 0.8, 2.0, 1.0)
    seen = {(row["engine"], row["batch"]): row["host_ms"] for row in made.rows()}
    assert seen == {("ours", 4): None, ("ours", 5): 1.0, ("vllm", 4): None, ("vllm", 5): None}
    assert made.wants_activity(SMALL, OURS) and not made.wants_activity(many, OURS)
    assert not made.wants_activity(SMALL, EngineSpec.named("vllm-async-split"))


def test_the_hosts_work_under_a_mixed_load_is_that_of_the_timed_runs(tmp_path):
    """The median of the rounds; of equal requests it is measured apart, and a timed run says nothing."""
    made = board(tmp_path)
    mixed = Case("tiny", "mixed", 4, 259, smoke=True)
    for host_ms in (0.5, 0.9, 0.6):
        made.add(SMALL, OURS, "kernel", run())
        made.add(mixed, OURS, "kernel", replace(run(), host_ms=host_ms))
    assert {row["workload"]: row["host_ms"] for row in made.rows()} == {"equal": None, "mixed": 0.6}


def test_targets():
    """One line for each target that a row of our asynchronous compiled engine says something about."""
    equal = {"engine": "ours", "mode": "async", "compiled": True, "model": "1b", "workload": "equal", "new_tokens": 256}
    rows = [
        equal | {"batch": 512, "host_ms": 0.72, "gpu_active": 0.996, "tokens_per_s": 900.0},
        equal | {"batch": 32, "host_ms": 0.4192, "gpu_active": 0.99, "tokens_per_s": 1000.0},
        equal | {"batch": 32, "mode": "sync", "host_ms": 9.0, "gpu_active": 0.5, "tokens_per_s": 1.0},
        equal | {"batch": 32, "engine": "vllm", "host_ms": None, "gpu_active": None, "tokens_per_s": 1.0},
        equal | {"batch": 512, "workload": "mixed", "host_ms": 1.4, "gpu_active": None, "tokens_per_s": 800.0},
        equal | {"batch": 32, "workload": "ragged", "host_ms": 5.0, "gpu_active": None, "tokens_per_s": 800.0},
    ]
    title, _, *lines = targets(rows).splitlines()
    assert title == "targets for an H100, ours-async-compiled"
    assert [re.split(r" {2,}", line.strip()) for line in lines] == [
        ["1b, equal, 256 new tokens: host ms a step", "32", "0.419", "0.419", "met"],
        ["1b, equal, 256 new tokens: host ms a step", "512", "0.720", "0.707", "missed"],
        ["1b, equal, 256 new tokens: device idle", "32", "1.00%", "0.50%", "missed"],
        ["1b, equal, 256 new tokens: device idle", "512", "0.40%", "0.50%", "met"],
        ["1b, equal, 256 new tokens: tokens/s", "512", "900", "1,000", "missed"],
        ["1b, mixed, 256 new tokens: host ms a step", "512", "1.400", "1.414", "met"],
    ]
    assert targets([row for row in rows if row["engine"] == "vllm"]) == ""


def test_design_8_row(tmp_path):
    """Every row has the fields that the design names."""
    made = board(tmp_path)
    made.add(SMALL, OURS, "kernel", run())
    [row] = made.rows()
    named = "engine mode model batch new_tokens attention compiled tokens_per_s ms_per_step gpu_active workload rounds"
    assert set(named.split()) <= set(row) and row_key(row)[:2] == ("ours", "async")


def test_table_is_aligned(tmp_path):
    """One block for a case, a line for an engine, the slowest first, each line as wide as the others."""
    made = board(tmp_path)
    made.add(SMALL, OURS, "our kernel", run(0.25))
    made.add(SMALL, THEIRS, "their kernel", run(0.5))
    made.activities["tiny", 4, OURS] = Activity(gpu_active=0.9951)
    title, head, slow, quick, *kernels = table(made.rows()).split("\n")
    assert title == "tiny, equal: 4 requests, 4 in a batch, 4 new tokens each"
    assert slow.split()[:3] == ["transformers", "sync", "8"] and quick.split()[:3] == ["ours", "async", "16"]
    assert "99.5%" in quick and len({len(line) for line in (head, slow, quick)}) == 1
    assert kernels == ["  ours: attention by our kernel", "  transformers: attention by their kernel"]


@pytest.mark.parametrize("names", [["ours-async"], list(NAMES)])
def test_figures_of_a_part_and_of_everything(tmp_path, names):
    """Whatever has been measured so far, each figure can be drawn from it."""
    made = board(tmp_path / "data")
    workloads = ["equal", "ragged", "mixed", "article"] if len(names) > 1 else ["article"]
    for case in make_cases(["8b", "1b"], workloads, [256], {"8b": 2048, "1b": 2048}, [32, 256]):
        for name in names:
            details = {"version": "vllm 0.1, torch 0.1"} if name.startswith("vllm") else {}
            made.add(case, EngineSpec.named(name), "kernel", run(), details)
            activity = Activity(0.99 if "ours" in name else None, 0.9)
            made.activities[case.model, case.rows, EngineSpec.named(name)] = activity
        made.floors[case] = 100.0
    made.write()
    draw_all(tmp_path / "data", tmp_path / "figures")
    drawn = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert drawn == {
        f"peers_{name}" for name in ("throughput", "rows", "steps", "active", "first_token", "between_tokens")
    }


def test_each_bar_stands_in_its_group():
    """A bar is as high as its row, in its engine's look; a case that fewer engines took part in has no holes."""
    rows = [
        {
            "model": model,
            "new_tokens": 64,
            "batch": 32,
            "engine": engine,
            "mode": mode,
            "compiled": False,
            "speed": speed,
        }
        for model, engine, mode, speed in (
            ("8b", "transformers", "sync", 1.0),
            ("8b", "ours", "sync", 2.0),
            ("8b", "ours", "async", 3.0),
            ("1b", "ours", "sync", 4.0),
            ("1b", "ours", "async", 5.0),
        )
    ]
    axes = Figure().add_subplot()
    extents = peers.grouped(axes, rows, "speed", "{:.0f}".format)
    drawn = sorted((bar.get_x(), bar.get_height(), bar.get_width()) for group in axes.containers for bar in group)
    assert [height for _, height, _ in drawn] == [1, 2, 3, 4, 5], "always the same order, and the 8b case before the 1b"
    looks = {bar.get_height(): bar.get_facecolor() for group in axes.containers for bar in group}
    assert looks[2] == looks[4] != looks[3] == looks[5], "an engine has one colour in all cases"
    for name, bars, centre in (("8b\n64 new tokens", drawn[:3], 0), ("1b\n64 new tokens", drawn[3:], 1)):
        (first, _, width), (last, _, _) = bars[0], bars[-1]
        assert extents[name] == pytest.approx((first, last + width))
        assert first + last + width == pytest.approx(2 * centre), "a group stands in the middle of its place"
        assert last - first == pytest.approx(width * (len(bars) - 1)), "no holes"


def test_the_quicker_vllm_is_shown():
    """In one process or in two, for each case by itself; with its version and kernel beside transformers'. What was
    measured in a call without vLLM is not shown beside it, though it is of the same engine and case."""
    common = {"model": "8b", "workload": "equal", "batch": 32, "engine": "vllm", "mode": "async", "compiled": True}
    common |= {"version": "vllm 0.1, torch 2.0", "attention": "FLASH", "beside_vllm": True}
    rows = [
        common | {"new_tokens": tokens, "processes": processes, "tokens_per_s": speed}
        for tokens, processes, speed in ((256, 1, 3.0), (256, 2, 2.0), (64, 1, 4.0), (64, 2, 5.0))
    ]
    rows.append(common | {"engine": "transformers", "new_tokens": 64, "tokens_per_s": 1.0, "attention": "sdpa"})
    rows.append(rows[-1] | {"tokens_per_s": 9.0, "beside_vllm": False})
    rows.append(rows[-1] | {"tokens_per_s": 8.0, "mode": "sync"})
    rows.append(rows[-1] | {"tokens_per_s": 7.0, "new_tokens": 256})  # alone: nothing to compare with
    rows.append(rows[0] | {"batch": 256})
    recording = {"device": "a GPU", "transformers": "5.0", "rows": rows}
    shown = peers.equal_rows(recording, beside_vllm=True)
    assert sorted(row["tokens_per_s"] for row in shown) == [1.0, 3.0, 3.0, 5.0]
    assert sorted(row["tokens_per_s"] for row in peers.usual_rows(recording)) == [8.0, 9.0]
    assert peers.where(recording, shown) == "a GPU; transformers 5.0 with sdpa; vllm 0.1 with FLASH"


# --- the rounds ---


class Scripted:
    """An engine to be measured that writes down what it is asked."""

    def __init__(self, who, diary, trouble=None, first=7):
        self.who, self.diary, self.trouble, self.first = who, diary, trouble, first
        self.attention, self.details = "", {"version": "1.0"}

    def prepare(self, case):
        self.diary.append(("prepare", str(self.who), case.new_tokens))
        self.attention = "kernel"
        if isinstance(self.trouble, NotHere):
            raise self.trouble

    def run(self, case):
        self.diary.append(("run", str(self.who), case.new_tokens))
        if self.trouble is not None:
            raise self.trouble
        return run(first=self.first)

    def activity(self, case):
        return Activity(0.9, 0.8)

    def close(self):
        self.diary.append(("close", str(self.who)))


def compare(tmp_path, rounds=2, **special):
    diary = []

    def enter(who, models):
        return Scripted(who, diary, **special.get(str(who).replace("-", "_"), {}))

    made = board(tmp_path)
    comparison = Comparison(made, Models("cpu"), rounds, enter)
    longer = Case("tiny", "equal", 8, 259, smoke=True)
    both = [EngineSpec.named(name) for name in ("ours-sync", "ours-async")]
    comparison.side_by_side([(longer, both), (SMALL, both)])
    return comparison, made, diary


def test_engines_take_turns(tmp_path):
    """All are prepared first; every second round runs the other way round; all are closed; all is written."""
    comparison, made, diary = compare(tmp_path)
    assert not comparison.problems
    assert diary[:6] == [
        ("prepare", "ours-sync", 8),
        ("prepare", "ours-async", 8),
        ("run", "ours-sync", 8),
        ("run", "ours-async", 8),
        ("run", "ours-async", 8),
        ("run", "ours-sync", 8),
    ]
    assert diary[-2:] == [("close", "ours-sync"), ("close", "ours-async")]
    rows = json.loads((tmp_path / "simulated" / f"{NAME}.json").read_text())["rows"]
    assert len(rows) == 4 and {row["rounds"] for row in rows} == {2} and {row["kernel_active"] for row in rows} == {0.8}
    assert {row["version"] for row in rows} == {"1.0"}


def test_one_failure_does_not_end_the_rest(tmp_path, capsys):
    """One line says who failed, at what and why; it is closed and left out from then on; the others are measured."""
    comparison, made, diary = compare(tmp_path, ours_sync={"trouble": RuntimeError("out of blocks\nand a long trace")})
    [problem] = comparison.problems
    assert problem == "ours-sync, tiny, equal, 4 rows, 8 new tokens: RuntimeError: out of blocks"
    assert capsys.readouterr().err == f"error: {problem}\n"
    assert diary.count(("run", "ours-sync", 8)) == 1 and ("prepare", "ours-sync", 4) not in diary
    assert [row["mode"] for row in made.rows()] == ["async", "async"]


def test_what_cannot_run_here_is_no_failure(tmp_path, capsys):
    """An engine that needs another machine is left out with a note."""
    comparison, made, _ = compare(tmp_path, ours_async={"trouble": NotHere("it needs a GPU")})
    assert not comparison.problems and {row["mode"] for row in made.rows()} == {"sync"}
    assert "note: ours-async is left out: it needs a GPU" in capsys.readouterr().out


def test_tokens_that_differ_are_a_problem(tmp_path):
    """Synchronous and asynchronous tokens must be the same; what was measured is written all the same."""
    comparison, made, _ = compare(tmp_path, ours_async={"first": 8})
    assert len(comparison.problems) == 2 and "synchronous and asynchronous tokens differ" in comparison.problems[0]
    assert (tmp_path / "simulated" / f"{NAME}.json").is_file() and len(made.rows()) == 4


def test_gains_stand_beside_their_ceiling():
    """Asynchronous against synchronous, the most that could be, the others, and the floor, as far as there are rows."""
    common = {"model": "8b", "workload": "equal", "new_tokens": 64, "batch": 4, "requests": 4, "compiled": False}
    common |= {"floor_ms_per_step": 5.0, "ms_per_step": 10.0, "run_active": None, "beside_vllm": False}
    ours = common | {"engine": "ours"}
    rows = [
        ours | {"mode": "sync", "tokens_per_s": 100.0, "run_active": 0.8},
        ours | {"mode": "async", "tokens_per_s": 120.0, "ms_per_step": 6.0},
        common | {"engine": "transformers", "mode": "async", "tokens_per_s": 60.0},
        ours | {"mode": "async", "tokens_per_s": 150.0, "compiled": True},
        common | {"engine": "ours", "mode": "async", "tokens_per_s": 9.0, "batch": 8},  # nothing to compare with
    ]
    for processes, speed in ((1, 96.0), (2, 100.0)):
        rows.append(
            common
            | {"engine": "vllm", "mode": "async", "compiled": True, "processes": processes, "tokens_per_s": speed}
            | {"beside_vllm": True}
        )
    rows.append(ours | {"mode": "async", "tokens_per_s": 160.0, "compiled": True, "beside_vllm": True})
    [_, plain, compiled, beside] = (line.split() for line in gains(rows).splitlines())
    assert plain == ["8b,", "4", "x", "64", "1.20", "1.25", "2.00", "-", "1.20"]
    assert compiled[-6:] == ["compiled", "-", "-", "2.50", "-", "2.00"], "no synchronous run to compare with"
    assert beside[-6:] == ["vLLM", "-", "-", "-", "1.60", "2.00"], "compared with what ran in the same call"


@pytest.mark.parametrize("path", sorted(DATA.glob(f"*/{NAME}.json")), ids=lambda path: path.parent.name)
def test_what_is_recorded(path):
    """Recorded rows are measurements; requests of equal length gave the same tokens, asynchronous or not."""
    rows = read_recording(path)["rows"]
    for row in rows:
        assert row["clock"] == "cuda" and row["rounds"] >= (1 if row["workload"] == "article" else 2), row
        if row["workload"] in ("equal", "article") and row["engine"] == "ours":
            twin = [r for r in rows if row_key(r)[2:] == row_key(row)[2:] and r["engine"] == "ours"]
            assert len({r["outputs"] for r in twin}) == 1, f"synchronous and asynchronous tokens differ: {row}"
