"""`make serve-ray`: the OpenAI API on several engines, with Ray Serve, on this machine.

python -m toolkit.commands.serve_ray [--model NAME] [--port 8000] [--replicas 2] [--affine]
"""

import argparse
import os
import signal
import sys
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from toolkit import course
from toolkit.commands.run_ray import count, fetch, load_engine, rows_of_engine
from toolkit.errors import exit_cleanly


def main() -> None:
    options = parse_arguments()
    course.use(os.environ.get("COURSE_CODE") or "solutions", fill=True)
    from ch10_serving.local_ray import started
    from ch10_serving.serve import listen

    listen("127.0.0.1", options.port).close()  # so that a port that is taken is said at once
    fetch(options.model)
    rows = rows_of_engine()
    say(f"starting Ray and {options.replicas} replicas of {options.model} ...")
    with started(options.replicas) as resources:
        from ch10_serving.replicas import deploy, stop

        make = partial(make_service, options.model, rows)
        deploy(make, options.replicas, resources, rows, options.port, affine=options.affine)
        say(f"model {Path(options.model).name} at http://127.0.0.1:{options.port}/v1 (Ctrl-C stops)")
        wait_for_signal()
        say("stopping, when the requests inside have ended ...")
        stop()


def wait_for_signal() -> None:
    """Return when this process is told to end."""
    told = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.set())
    told.wait()


def make_service(model: str, rows: int) -> Any:  # noqa: ANN401 (a Service, of whichever code runs)
    """A replica's service, in its process."""
    from ch10_serving import Limits, Service

    engine, tokenizer = load_engine(model, rows)
    return Service(engine, tokenizer, Path(model).name, rows + Limits().waiting)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m toolkit.commands.serve_ray", description="Serve on several engines."
    )
    parser.add_argument("--model", default="default", help="default, tiny, a model folder, or a name on the Hub")
    parser.add_argument("--port", default="8000")
    parser.add_argument("--replicas", default="2", help="engines, each on a GPU of its own where there are any")
    parser.add_argument("--affine", action="store_true", help="requests that begin alike go to the same replica")
    options = parser.parse_args()
    options.port, options.replicas = count("PORT", options.port, 65535), count("REPLICAS", options.replicas, 10_000)
    return options


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    exit_cleanly(main)
