"""Record a chapter's measurements on this machine, or how near the decode step comes to its floor.

make record CH=0                  # on the GPU if there is one, else on the CPU
make record CH=0 DEVICE=cpu
make record CH=3                  # chapters 3 and up: without a GPU, the simulated one
make record CH=roofline           # on a GPU only
make record CH=step_profile       # on a GPU only: where the time of a decode step goes, kernel by kernel
make record CH=host_cost          # a step's cost for the host, by rows
make record CH=busy_neighbour     # on a GPU: the same engine beside a process that keeps all cores busy
make record CH=replicas           # with Ray: its way's cost for a call, what is seen of a death, a model in two shares
make record CH=several_gpus       # on two GPUs: an engine on each, alone and together

Without make: python -m figures.record 0 --device cpu
"""

import argparse

import torch

from figures.rooms import full_name, load, record_command, rooms, short_name
from toolkit.errors import UserError, exit_cleanly
from toolkit.recordings import ROOT, write_recording


def main() -> None:
    known = ", ".join(map(short_name, rooms("record")))
    parser = argparse.ArgumentParser(prog="python -m figures.record", description="Record a chapter's measurements.")
    parser.add_argument("chapter", nargs="?", help=f"one of: {known}")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    if options.chapter is None:
        raise UserError(f"name a chapter, such as make record CH=4; there are {known}")
    chapter = full_name(options.chapter)
    if chapter not in rooms("record"):
        raise UserError(f"no measurements are known for {options.chapter!r}; there are {known}")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise UserError("DEVICE=cuda: torch sees no NVIDIA GPU on this machine")
    device = torch.device(options.device)
    command = f"{record_command(chapter)} DEVICE={options.device}"
    module = load(chapter, "record")
    # Chapters on the accelerator record the simulated GPU where there is no other, and name it.
    recorded_on = module.recorded_on(device) if hasattr(module, "recorded_on") else device
    for name, rows in module.record(device).items():
        path = write_recording(name, rows, command=command, device=recorded_on)
        print(f"{len(rows):5} rows  {path.relative_to(ROOT)}")


if __name__ == "__main__":
    exit_cleanly(main)
