"""What NVIDIA's compute-sanitizer says of the pipeline's five mistakes. Needs CUDA and the tool on the PATH.

    python -m tests.toolkit.simgpu.compute_sanitizer

It looks at what kernels do inside, not at the order of streams. Each mistake runs in a process of its own under each of
the four tools. The first row is a control that shows that the tools look at PyTorch's kernels at all: a program that
sums memory which nothing has written, which is initcheck's to report. Source: NVIDIA, Compute Sanitizer User Manual.
"""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.toolkit.simgpu import pipeline

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
PROCESSES = 28  # all at once, since each takes long, most of it for loading kernels
CONTROL = "import torch; torch.empty(1 << 22, device='cuda').sum().item()"


def report(program: str, tool: str) -> str:
    """The number of errors in the tool's closing summary, or how the program ended when there is none."""
    command = ["compute-sanitizer", "--tool", tool, sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    summary = re.search(r"SUMMARY: (\d+)", done.stdout)
    return summary[1] if summary else f"no summary, exit {done.returncode}: {(done.stdout + done.stderr)[-200:]!r}"


def main() -> None:
    pipeline_with = "from tests.toolkit.simgpu.compare_detectors import right; right({!r})"
    programs = {"control: memory that nothing wrote": CONTROL, "none: correct": pipeline_with.format(None)}
    programs |= {bug: pipeline_with.format(bug) for bug in pipeline.BUGS}
    with ThreadPoolExecutor(PROCESSES) as pool:
        rows = {name: [pool.submit(report, program, tool) for tool in TOOLS] for name, program in programs.items()}
    print("|mistake|" + "|".join(f"{tool}: errors" for tool in TOOLS) + "|")
    print("|---" * (len(TOOLS) + 1) + "|")
    for name, row in rows.items():
        print("|".join(["", name, *(each.result() for each in row), ""]))


if __name__ == "__main__":
    main()
