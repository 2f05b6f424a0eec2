"""Compare this course's engine with the transformers library's continuous batching, and with vLLM, on this GPU.

    python -m toolkit.commands.bench                                  # everything, about 20 minutes on an H100
    python -m toolkit.commands.bench --model 1b --workload equal --new-tokens 256
    python -m toolkit.commands.bench --only-missing                   # goes on where an earlier call stopped
    python -m toolkit.commands.bench --model 1b --workload equal --new-tokens 256 --rows 512 --vllm PYTHON
    python -m toolkit.commands.bench --model 1b,135m --workload equal,mixed --new-tokens 256 --rows 32,128,256,512

vLLM takes part where the user has it: --vllm names the Python that it is installed for. (If more than that is needed,
such as a PYTHONPATH, name a script that sets it and ends with `exec python3 "$@"`.)

Without a GPU it is a smoke test: the tiny model, our engine on the simulated GPU, transformers' on the CPU. Everything
is run and compared, and no number says anything about speed; what is written goes to figures/local and says so.
"""

import argparse
import shlex
import sys
from functools import partial
from itertools import groupby
from pathlib import Path

import torch

from toolkit import device
from toolkit.commands.bench.board import Board
from toolkit.commands.bench.cases import ROWS, SMOKE_TOKENS, WORKLOADS, Case, make_cases
from toolkit.commands.bench.compare import Comparison, enter
from toolkit.commands.bench.engine_runner import NAMES, EngineSpec, Models
from toolkit.commands.bench.floor import copy_bandwidth
from toolkit.commands.bench.report import table
from toolkit.commands.bench.targets import targets
from toolkit.commands.bench.vllm_process import VllmPython
from toolkit.commands.named import names_in
from toolkit.course import current, use
from toolkit.errors import UserError, exit_cleanly
from toolkit.models.shapes import SHAPES
from toolkit.recordings import DATA, ROOT

ENGINES = NAMES[: NAMES.index("transformers-async-compiled")]  # that one is an experiment: ask for it by name
MANY_ROWS_ENGINES = ("ours-sync-compiled", "ours-async-compiled")
VLLM_ENGINES = ("ours-sync-compiled", "ours-async-compiled", "transformers-async")  # what has room beside vLLM
RAGGED_ENGINES = ("ours-sync-compiled", "ours-async-compiled", "transformers-sync", "transformers-async")
MIXED_ENGINES = ("ours-async-compiled",)  # it is there for what the host's work comes to
ARTICLE_ENGINES = ("ours-async-compiled", "ours-sync-compiled")  # four to five minutes each for transformers'
SMOKE_ENGINES = ("ours-sync", "ours-async", "transformers-sync", "transformers-async")
SHORTEST = 224  # new tokens
SMOKE_LABEL = "none: smoke test"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m toolkit.commands.bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="8b,1b", help="shapes, such as 8b,1b")
    parser.add_argument("--workload", default=",".join(WORKLOADS), help=f"of {', '.join(WORKLOADS)}; default: all")
    parser.add_argument("--new-tokens", default="256,1024", help="lengths of the equal workload")
    parser.add_argument("--rows", default=f"{ROWS}", help="requests in a batch, of equal and mixed loads: 32,256,512")
    parser.add_argument("--vllm", metavar="PYTHON", help="the Python that has vLLM; default: vLLM takes no part")
    parser.add_argument("--engines", default="", help=f"of {', '.join(NAMES)}; default: what the workload is known for")
    parser.add_argument("--rounds", type=int, default=3, help="timed runs of each, the article's apart")
    parser.add_argument("--only-missing", action="store_true", help="leave out what the recording has already")
    parser.add_argument("--folder", type=Path, help="where to write GPU/peers.json; default: figures/data")
    return parser.parse_args()


def numbers(text: str, option: str, example: str) -> list[int]:
    """The numbers in a list with commas. Raises UserError for anything else."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"{option}: {text!r} is no list of numbers such as {example}") from None


def engines_for(case: Case, asked: list[str], vllm: VllmPython | None) -> list[EngineSpec]:
    """Who takes part in a case: who was asked for, else its usual engines."""
    usual: tuple[str, ...]
    if not torch.cuda.is_available():
        usual = SMOKE_ENGINES
    elif case.workload != "equal":
        usual = {"ragged": RAGGED_ENGINES, "mixed": MIXED_ENGINES, "article": ARTICLE_ENGINES}[case.workload]
    elif case.rows > ROWS:
        usual = MANY_ROWS_ENGINES
    else:
        usual = ENGINES if vllm is None else VLLM_ENGINES
    if vllm is not None and case.workload == "equal":
        usual += ("vllm-async",)
    specs = [EngineSpec.named(name) for name in asked or usual]
    # vLLM's `generate` takes all requests at once, and here all of one length.
    return [who for who in specs if who.engine != "vllm" or not case.lengths_differ]


def measured_cases(options: argparse.Namespace) -> list[Case]:
    """The cases that were asked for; where there is no GPU, small ones in their place."""
    workloads = names_in(options.workload, WORKLOADS, "--workload")
    models = names_in(options.model, tuple(SHAPES), "--model")
    lengths = numbers(options.new_tokens, "--new-tokens", "256,1024")
    rows = numbers(options.rows, "--rows", "32,256")
    if min(rows) < 1:
        raise UserError(f"--rows: {min(rows)}: take at least 1")
    if min(lengths) < SHORTEST:
        raise UserError(f"--new-tokens: {min(lengths)}: take at least {SHORTEST}, the GPU is watched for that long")
    if not torch.cuda.is_available():
        vocab = SHAPES["tiny"].vocab_size
        return [Case("tiny", name, SMOKE_TOKENS, vocab, smoke=True) for name in workloads if name != "article"]
    return make_cases(models, workloads, lengths, {name: SHAPES[name].vocab_size for name in models}, rows)


def find_vllm(option: str | None, asked: list[str]) -> VllmPython | None:
    """The Python that has vLLM, if it takes part. Raises UserError if it was asked for by name and is not to be had."""
    if option is not None:
        return VllmPython.find(option, required=bool(asked))
    if asked:
        raise UserError(f"--engines: {asked[0]} needs --vllm, the Python that has vLLM")
    return None


def recorded_command(words: list[str], vllm: str | None) -> str:
    """This call, for the recording. Where vLLM lies is this machine's own affair."""
    if vllm is not None:
        words = [word.removesuffix(vllm) + "PYTHON" if word in (vllm, f"--vllm={vllm}") else word for word in words]
    return "make bench" + (f" BENCH={shlex.quote(shlex.join(words))}" if words else "")


def main() -> int:
    options = arguments()
    if options.rounds < 1:
        raise UserError(f"--rounds: {options.rounds}: take at least 1")
    asked = names_in(options.engines, NAMES, "--engines")
    cases = measured_cases(options)
    vllm = find_vllm(options.vllm, [name for name in asked if name.startswith("vllm")])
    if current() is None:
        use("solutions")
    smoke = not torch.cuda.is_available()
    if smoke:
        print("SMOKE TEST. torch sees no NVIDIA GPU, so nothing here is a measurement of speed.\n")
        torch.set_num_threads(1)
        device.accelerator.reset("eager", on_race="raise")
    board = Board(
        recorded_command(sys.argv[1:], options.vllm),
        "simulated GPU" if smoke else "cuda",
        options.folder or (ROOT / "figures" / "local" if smoke else DATA),
        options.only_missing,
        None if smoke else copy_bandwidth(),
        SMOKE_LABEL if smoke else "cuda",
        beside_vllm=vllm is not None,
    )
    comparison = Comparison(board, Models("cpu" if smoke else "cuda"), options.rounds, partial(enter, vllm=vllm))
    for _, mine in groupby(cases, key=lambda case: (case.model, case.workload == "article")):
        pairs = [(case, engines_for(case, asked, vllm)) for case in mine]
        if pairs[0][0].workload == "article":
            comparison.one_by_one(*pairs[0])
        else:
            comparison.side_by_side(pairs)
    path = board.write()
    print("\n" + table(board.rows()))
    if smoke:
        print("\nSMOKE TEST: see above; no number here says anything about speed.")
    elif judged := targets(board.new_rows()):
        print("\n" + judged)
    if path is not None:
        print(f"\nwrote {path}")
    for problem in comparison.problems:
        print(f"problem: {problem}")
    return 1 if comparison.problems else 0


if __name__ == "__main__":
    exit_cleanly(main)
