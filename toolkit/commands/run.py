"""`make run`: every engine built so far on the same real prompts, with answers, a table and a timeline picture each.

    python -m toolkit.commands.run [--model NAME] [--prompts FILE] [--tokens N]

Greedy, exactly N new tokens per prompt, on CUDA where there is a GPU and on the CPU otherwise.
"""

import os
import textwrap
from pathlib import Path

import torch
from tqdm import tqdm

from toolkit import course
from toolkit.commands.engines import ENGINES, MAX_ROWS, Run, measure
from toolkit.commands.prompt_options import parse_arguments
from toolkit.eos import eos_ids
from toolkit.errors import UserError, exit_cleanly
from toolkit.models import LoadedModel, load_model
from toolkit.paged_attention import PagedKVCache, attention_kernel_name
from toolkit.prompts import Prompt, load_prompts
from toolkit.timeline import export_chrome_trace, export_html, plot_timeline

PICTURES = course.ROOT / "figures" / "local"
ANSWERS_SHOWN = 3
# For every engine the same. From chapter 3 on host and device are two threads that compute side by side, and with more
# than one core for each they would wait for each other; and an engine without them would get all cores for its forward.
TORCH_THREADS = 1
CPU_NOTE = """
There is no GPU here, so the CPU plays the device. For ch01 and ch02, 'device idle' is the share of time outside the
forward, and 'host ms/step' what the engine itself needs. From ch03 on the engines run on the simulated GPU: tokens/s
is wall-clock time (threads really overlap, but on a CPU that computes as well there is little to gain), and the
columns 'sim.' are read off its virtual clock: simulated, from declared costs, for a device that is none of yours."""


def main() -> None:
    options = parse_arguments("python -m toolkit.commands.run", "Run every engine on the same prompts.")
    course.use(os.environ.get("COURSE_CODE") or "solutions", fill=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"loading {options.model} ...", flush=True)
    loaded = load_model(options.model, device=device)
    if loaded.tokenizer is None:
        raise UserError(f"model {options.model} has no tokenizer, so it cannot read prompts; take tiny or default")
    prompts = load_prompts(
        options.prompts,
        loaded.tokenizer,
        max_context=loaded.model.config.max_position_embeddings,
        new_tokens=options.tokens,
    )
    print(f"{loaded.description} on {device_in_words(device)}")
    print(f"{len(prompts)} prompts, {options.tokens} new tokens each, greedy, at most {MAX_ROWS} rows in a batch")
    attention = attention_kernel_name(PagedKVCache.allocate(loaded.model, num_blocks=1, block_size=1).storage)
    print(f"attention over the paged cache: {attention}\n")
    torch.set_num_threads(TORCH_THREADS)
    runs = run_all(loaded, prompts, options.tokens)
    print_answers(loaded, prompts, runs)
    print_table(runs, device)
    draw(runs)


def device_in_words(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "the CPU, one thread"


def run_all(loaded: LoadedModel, prompts: list[Prompt], tokens: int) -> dict[str, Run]:
    """Run every engine, each under a progress bar that counts tokens."""
    runs = {}
    for entry in ENGINES:
        with tqdm(total=len(prompts) * tokens, desc=f"{entry.name:<26}", unit=" tok", dynamic_ncols=True) as bar:
            runs[entry.name] = measure(entry, loaded, [p.token_ids for p in prompts], tokens, bar.update)
    return runs


def print_answers(loaded: LoadedModel, prompts: list[Prompt], runs: dict[str, Run]) -> None:
    """Show a few answers of the last engine that is meant to be right, and say whether these engines agree."""
    assert loaded.tokenizer is not None
    trusted = {entry.name: runs[entry.name] for entry in ENGINES if not entry.wrong_by_design}
    *_, (name, last) = trusted.items()
    print(f"\nAnswers ({name}):")
    for prompt, output in list(zip(prompts, last.outputs, strict=True))[:ANSWERS_SHOWN]:
        text = str(loaded.tokenizer.decode(until_end(output, loaded), skip_special_tokens=True))
        print(f"\n  > {textwrap.shorten(prompt.text, 100, placeholder=' ...')}")
        print(textwrap.indent(textwrap.fill(text.strip(), 100), "    "))
    print()
    for entry in ENGINES:
        wrong = sum(a != b for a, b in zip(runs[entry.name].outputs, last.outputs, strict=True))
        if entry.wrong_by_design:
            print(f"{entry.name}: wrong by design, no order; {wrong} of {len(prompts)} answers differ.")
        elif wrong:
            print(f"{entry.name}: {wrong} of {len(prompts)} answers differ from those of {name}.")
    if all(run.outputs == last.outputs for run in trusted.values()):
        print("All other engines gave the same tokens for every prompt.")
    elif loaded.model.dtype != torch.float32:
        print(f"In {str(loaded.model.dtype).removeprefix('torch.')} rounding depends on the batch; float32 agrees.")


def until_end(output: list[int], loaded: LoadedModel) -> list[int]:
    """The tokens up to the first end-of-sequence token: what comes after it was generated for the benchmark only."""
    ends = eos_ids(loaded.model)
    end = next((i for i, token in enumerate(output) if token in ends), len(output))
    return output[:end]


def print_table(runs: dict[str, Run], device: str) -> None:
    """Throughput is always wall-clock; what was read off a virtual clock stands in columns of its own."""
    real, simulated = "device idle  host ms/step", "sim. idle  sim. ms/step"
    has_simulated = any(run.recording.clock == "simulated" for run in runs.values())
    print(f"\n{'engine':<26} {'tokens/s':>9} {'steps':>6} {'padding':>8}  {real}" + f"  {simulated}" * has_simulated)
    for name, run in runs.items():
        recording = run.recording
        line = f"{name:<26} {run.tokens_per_second:>9.1f} {run.steps:>6} {run.padding_share:>8.1%}"
        if recording.clock == "simulated":
            start, end = recording.window
            line += f"  {'-':>11}  {'-':>12}  {recording.idle_share():>9.1%}  {(end - start) * 1e3 / run.steps:>12.2f}"
        else:
            line += f"  {recording.idle_share():>11.1%}  {recording.host_ms_per_step():>12.2f}"
            line += f"  {'-':>9}  {'-':>12}" * has_simulated
        print(line)
    if device == "cpu":
        print(CPU_NOTE)


def draw(runs: dict[str, Run]) -> None:
    """Write a picture of a few steps, and a page and a trace of all of them, for every engine."""
    print("\nTimelines, a few steps from the middle; the page and the trace beside a picture hold all of them.")
    print("A browser shows the page (.html), and https://ui.perfetto.dev the trace (.json).")
    for name, run in runs.items():
        path = PICTURES / f"{name.replace(' ', '_')}.png"
        plot_timeline(run.recording, path, title=name)
        export_html(run.recording, path.with_suffix(".html"), title=name)
        export_chrome_trace(run.recording, path.with_suffix(".json"))
        print(f"  {shown(path)}  {path.with_suffix('.html').name}  {path.with_suffix('.json').name}")


def shown(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    exit_cleanly(main)
