"""Record a chapter's measurements on this machine, or how near the decode step comes to its floor.

python -m toolkit.record ch00                  # on the GPU if there is one, else on the CPU
python -m toolkit.record ch00 --device cpu
python -m toolkit.record ch03                  # chapters 3 and up: without a GPU, the simulated one
python -m toolkit.record roofline              # on a GPU only
python -m toolkit.record host_cost             # a step's cost for the host, by rows
python -m toolkit.record busy_neighbour        # on a GPU: the same engine beside a process that keeps all cores busy
"""

import argparse
import importlib
import pkgutil

import torch

import toolkit.record
from toolkit.errors import UserError, exit_cleanly
from toolkit.recordings import ROOT, write_recording


def main() -> None:
    modules = (name for _, name, _ in pkgutil.iter_modules(toolkit.record.__path__))
    chapters = sorted(
        name for name in modules if name.startswith("ch") or name in ("roofline", "host_cost", "busy_neighbour")
    )
    parser = argparse.ArgumentParser(prog="python -m toolkit.record", description="Record a chapter's measurements.")
    parser.add_argument("chapter", help=f"one of: {', '.join(chapters)}")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    if options.chapter not in chapters:
        raise UserError(f"no measurements are known for {options.chapter!r}; there are {', '.join(chapters)}")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no NVIDIA GPU on this machine")
    device = torch.device(options.device)
    command = f"python -m toolkit.record {options.chapter} --device {options.device}"
    module = importlib.import_module(f"toolkit.record.{options.chapter}")
    # Chapters on the accelerator record the simulated GPU where there is no other, and name it.
    recorded_on = module.recorded_on(device) if hasattr(module, "recorded_on") else device
    for name, rows in module.record(device).items():
        path = write_recording(name, rows, command=command, device=recorded_on)
        print(f"{len(rows):5} rows  {path.relative_to(ROOT)}")


if __name__ == "__main__":
    exit_cleanly(main)
