"""python -m toolkit.simgpu script.py [arguments]: run a program written for torch.cuda, and report its races.

The exit code is 1 if there are races, or if the program fails; otherwise the program's own.
"""

import argparse
import runpy
import subprocess
import sys
import traceback
from pathlib import Path

from toolkit.simgpu import control, streams
from toolkit.simgpu.as_cuda import as_cuda


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m toolkit.simgpu", description=__doc__.split("\n\n")[0])
    parser.add_argument("--policy", default="eager", help="eager (the default), lazy, random:SEED or threads")
    parser.add_argument("--seeds", type=int, metavar="N", help="run N times, under random:0 to random:N-1")
    parser.add_argument("-m", action="store_true", dest="is_module", help="SCRIPT is a module's name")
    parser.add_argument("script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    if args.seeds is not None:
        return max(_run_again(seed, args) for seed in range(args.seeds))
    return run(args.script, args.arguments, args.policy, args.is_module)


def _run_again(seed: int, args: argparse.Namespace) -> int:
    """In a process of its own: a program may leave things behind."""
    print(f"simgpu: random:{seed}", file=sys.stderr)
    module = ["-m"] if args.is_module else []
    command = [sys.executable, "-m", "toolkit.simgpu", "--policy", f"random:{seed}", *module, args.script]
    return subprocess.run([*command, *args.arguments]).returncode


def run(script: str, arguments: list[str], policy: str, is_module: bool = False) -> int:
    """Run a script (or a module) to its end; returns the exit code.

    Args:
        policy: when queued work runs, see policies.py.
    """
    sys.argv = [script, *arguments]
    if not is_module:
        sys.path[0] = str(Path(script).resolve().parent)
    with as_cuda(policy, on_race="collect"):
        code = _run_program(script, is_module)
        races = control.describe_races()
    if races:
        print(races, file=sys.stderr)
    return 1 if races else code


def _run_program(script: str, is_module: bool) -> int:
    try:
        if is_module:
            runpy.run_module(script, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(script, run_name="__main__")
        streams.synchronize()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
