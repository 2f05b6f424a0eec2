"""On a machine with an NVIDIA GPU: do the races that the simulator reports in transformers' batching happen there?

    python -m tests.toolkit.simgpu.transformers_verdicts

A sleep on the device widens the window of each race. It runs twice, with the edges that are missing and as transformers
is, in a process of its own (a wrong index would end CUDA for the rest of it). What is printed is JSON: a race is
"confirmed" where the run as it is goes wrong and the one with the edges does not. Events say in how many cases the
window was open (transformers_windows.py), so that a race that is not seen had its chance, or had not. The exit code is
0 if all three are confirmed.
"""

import contextlib
import json
import logging
import os
import subprocess
import sys
import time

import torch
import transformers

from tests.toolkit.simgpu import transformers_batching as batching
from tests.toolkit.simgpu import transformers_windows

LIMIT_S = 90  # for one race: a run that hangs is a verdict, too
RACES = {  # as docs/simulator.md numbers them: the mode, and what is late
    "1": ("synchronous", "the write of a batch's indices on the current stream"),
    "2": ("asynchronous", "the clearing of the inputs on the current stream"),
    "3": ("asynchronous with graphs", "the copy of the warm-up's inputs on the h2d stream"),
}


def observe(race, mend):
    """One run with one race's window widened.

    Returns:
        the tokens by request, the windows in ms, and how many batches were copied wrong (looked at for race 3 only).
    """
    use_async, graphs, copies, windows = race != "1", race == "3", [], []
    force = {
        "1": lambda: transformers_windows.late_write(windows),
        "2": lambda: transformers_windows.late_clearing(windows),
        "3": lambda: transformers_windows.late_copies(windows, copies),
    }[race]
    began = transformers_windows.moment()
    with force(), batching.mended() if mend else contextlib.nullcontext():
        tokens = batching.generate("cuda", use_async, graphs, cancel=False)
    torch.cuda.synchronize()
    wrong_copies = sum(not torch.equal(meant, got.cpu()) for meant, got in copies)
    return {"tokens": tokens, "wrong copies": wrong_copies, "windows": transformers_windows.in_ms(windows, began)}


def judge(race, runs, right):
    """What the two runs of a race say, as one entry of the result."""

    def in_words(run):
        if "error" in run:
            return run["error"]
        wrong = sum(run["tokens"][name] != right[name] for name in right)
        copies = f", {run['wrong copies']} batches copied wrong" if race == "3" else ""
        return f"{wrong} of {len(right)} requests with wrong tokens{copies}"

    def is_right(run):
        return "error" not in run and run["tokens"] == right and run["wrong copies"] == 0

    mode, late = RACES[race]
    mended, as_it_is = (runs.get(key, {"error": "did not end"}) for key in ("mended", "as it is"))
    window = {"with the missing edges": describe_windows(mended), "as it is": describe_windows(as_it_is)}
    words = {"with the missing edges": in_words(mended), "as it is": in_words(as_it_is)}
    if not is_right(mended):
        verdict = "unclear"
    elif not is_right(as_it_is):
        verdict = "confirmed"
    else:
        was_open = any(map(transformers_windows.is_open, as_it_is["windows"]))
        verdict = "not seen, and the window was open" if was_open else "not seen, but the window was not open"
    return {"race": race, "mode": mode, "late": late, **words, "verdict": verdict, "window": window}


def describe_windows(run):
    """In how many cases a run's window was open, and the moments of the first of these (else of the first of all)."""
    windows = run.get("windows", [])
    opened = list(filter(transformers_windows.is_open, windows))
    return {"open": f"{len(opened)} of {len(windows)}", "ms": (opened or windows or [{}])[0]}


def run_one(what):
    """In a process of its own: print a line of JSON for each run."""
    if what == "right":
        print(json.dumps({"right": batching.generate("cpu", cancel=False)}))
        return
    for name in ("mended", "as it is"):
        try:
            run = observe(what, mend=name == "mended")
        except RuntimeError as error:
            run = {"error": f"fails: {str(error).splitlines()[0]}"}
        print(json.dumps({name: run}), flush=True)


def start(what):
    # A hardware queue for every stream: none is to wait for a sleep because it shares one.
    settings = {"CUDA_VISIBLE_DEVICES": ""} if what == "right" else {"CUDA_DEVICE_MAX_CONNECTIONS": "32"}
    command = [sys.executable, "-m", "tests.toolkit.simgpu.transformers_verdicts", what]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **settings})


def finish(process):
    """What it printed, even if it had to be ended."""
    try:
        printed, _ = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        printed, _ = process.communicate()
    return {key: value for line in printed.splitlines() for key, value in json.loads(line).items()}


def main():
    logging.disable(logging.CRITICAL)
    if len(sys.argv) > 1:
        return run_one(sys.argv[1])
    if not torch.cuda.is_available():
        return "transformers_verdicts: it needs an NVIDIA GPU; on the simulated one it is test_transformers_batching.py"
    began = time.perf_counter()
    reference = start("right")
    runs = {race: finish(start(race)) for race in RACES}
    right = finish(reference)["right"]
    found = [judge(race, runs[race], right) for race in RACES]
    about = {"transformers": transformers.__version__, "torch": torch.__version__}
    about |= {"device": torch.cuda.get_device_name(), "seconds": round(time.perf_counter() - began, 1)}
    print(json.dumps({**about, "races": found}, indent=2))
    return int(any(each["verdict"] != "confirmed" for each in found))


if __name__ == "__main__":
    sys.exit(main())
