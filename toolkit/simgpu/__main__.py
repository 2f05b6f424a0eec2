"""python -m toolkit.simgpu script.py [arguments]: run a program written for torch.cuda, and report its races.

The exit code is 1 if there are races, or if the program fails; otherwise the program's own. It is 2 where the command
cannot do what it was asked.
"""

import argparse
import runpy
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from toolkit import simgpu
from toolkit.simgpu import control, streams
from toolkit.simgpu.as_cuda import as_cuda
from toolkit.simgpu.policies import make_policy

OURS = (__file__, runpy.__file__, "<frozen runpy>")  # what the program's own traceback does not show
PAGE_NEEDS = (
    "--html needs bokeh and matplotlib (pip install bokeh matplotlib), and toolkit.timeline beside this package"
)


def main() -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--policy", default="eager", help="eager (the default), lazy, random:SEED or threads")
    parser.add_argument("--seeds", type=int, metavar="N", help="run N times, under random:0 to random:N-1")
    parser.add_argument("--html", metavar="FILE", help="write the timeline as a page; with --seeds a folder of pages")
    parser.add_argument("-m", action="store_true", dest="is_module", help="SCRIPT is a module's name")
    parser.add_argument("script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    if args.seeds is not None and args.seeds < 1:
        parser.error(f"--seeds {args.seeds}: at least 1")
    if not args.is_module and not Path(args.script).is_file():
        parser.error(f"{args.script}: no such file")
    try:
        make_policy(args.policy)
    except ValueError as error:
        parser.error(str(error))
    if args.html is not None and page_writer() is None:
        parser.error(PAGE_NEEDS)
    if args.seeds is not None:
        return max(_run_again(seed, args) for seed in range(args.seeds))
    return run(args.script, args.arguments, args.policy, args.is_module, args.html)


def _run_again(seed: int, args: argparse.Namespace) -> int:
    """In a process of its own: a program may leave things behind."""
    print(f"simgpu: random:{seed}", file=sys.stderr)
    page = ["--html", str(Path(args.html, f"random-{seed}.html"))] if args.html is not None else []
    module = ["-m"] if args.is_module else []
    command = [sys.executable, "-m", __package__, "--policy", f"random:{seed}", *page, *module, args.script]
    return subprocess.run([*command, *args.arguments]).returncode


def page_writer() -> Callable[..., None] | None:
    """What writes a timeline's page: outside of this package, which needs it for nothing else."""
    try:
        from toolkit.timeline.program_page import write_program_page
    except ImportError:
        return None
    return write_program_page


def run(script: str, arguments: list[str], policy: str, is_module: bool = False, html: str | None = None) -> int:
    """Run a script (or a module) to its end; returns the exit code.

    Args:
        policy: when queued work runs, see policies.py.
        html: the file for the timeline's page.
    """
    sys.argv = [script, *arguments]
    if not is_module:
        sys.path[0] = str(Path(script).resolve().parent)
    with as_cuda(policy, on_race="collect"):
        code = _run_program(script, is_module)
        races = control.describe_races()
        if races:
            print(races, file=sys.stderr)
        if html is not None and not _write_page(html, script, races):
            return 2
    return 1 if races else code


def _write_page(html: str, script: str, races: str) -> bool:
    write = page_writer()
    assert write is not None, "asked before the program ran"
    try:
        write(simgpu, html, title=Path(script).name, report=races)
    except Exception as error:  # a folder that cannot be written to, or whatever a program's names do to a page
        print(f"simgpu: no page: {error}", file=sys.stderr)
        return False
    print(f"simgpu: the timeline is in {html}", file=sys.stderr)
    return True


def _run_program(script: str, is_module: bool) -> int:
    try:
        if is_module:
            runpy.run_module(script, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(script, run_name="__main__")
        streams.synchronize()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except Exception as error:
        _print_its_own(error)
        return 1
    return 0


def _print_its_own(error: Exception) -> None:
    """The traceback that Python would show, which begins in the program."""
    told = traceback.TracebackException.from_exception(error)
    outside = [frame for frame in told.stack if frame.filename not in OURS]
    if outside:
        told.stack = traceback.StackSummary.from_list(outside)
    print("".join(told.format()), end="", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
