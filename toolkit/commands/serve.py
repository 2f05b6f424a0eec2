"""`make serve`: chapter 9's engine behind the OpenAI API, on this machine.

    python -m toolkit.commands.serve [--model NAME] [--port 8000] [--host 127.0.0.1]

On CUDA where there is a GPU, on the simulated GPU otherwise. On a host that others can reach, the environment variable
SERVE_API_KEY has to hold the key that callers send along.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import torch

from toolkit import course, device
from toolkit.errors import UserError, exit_cleanly
from toolkit.models import LoadedModel, load_model
from toolkit.models.merge import merge_projections
from toolkit.paged_attention import PagedKVCache

BLOCK_SIZE = 16
KEY = "SERVE_API_KEY"
CACHE_SHARE = 0.8  # of the GPU's free memory; the rest is for graphs and what a step needs
MOST_CACHE_TOKENS = 2**20


def main(prog: str = "python -m toolkit.commands.serve") -> None:
    """`prog`: the command's name in its help."""
    options = parse_arguments(prog)
    course.use(os.environ.get("COURSE_CODE") or "solutions", fill=True)
    from ch10_serving import Limits, Service, check_host, listen, serve, server_for

    # First what takes no time and may fail.
    key = os.environ.get(KEY)
    check_host(options.host, key)
    listening = listen(options.host, options.port)
    limits, rows = Limits(), 128 if torch.cuda.is_available() else 16
    say(f"loading {options.model} ...")
    loaded = load_model(options.model, device="cuda" if torch.cuda.is_available() else "cpu")
    say(f"{loaded.description}; making the engine ...")
    engine = make_engine(loaded, rows)
    service = Service(engine, loaded.tokenizer, name_of(loaded), rows + limits.waiting)
    host = f"[{options.host}]" if ":" in options.host else options.host
    address = f"http://{host}:{listening.getsockname()[1]}/v1"
    server = server_for(
        service,
        options.host,
        key,
        limits,
        lambda: say(f"model {service.model} at {address} (Ctrl-C stops, when all requests have ended)"),
    )
    serve(server, listening)


def make_engine(loaded: LoadedModel, rows: int) -> Any:  # noqa: ANN401 (a FullEngine, of whichever code runs)
    """Chapter 9's engine with room for as many tokens as there is memory for."""
    from ch09_persistent_batch import PersistentEngine

    limits: dict[str, Any] = {"max_rows": rows, "block_size": BLOCK_SIZE, "stream_text": False}
    context = loaded.model.config.max_position_embeddings
    if device.is_simulated():
        from toolkit import simgpu

        torch.set_num_threads(1)
        simgpu.reset("threads", on_race="collect")
        tokens = min(context, 1024)
        limits |= {"num_blocks": rows * tokens // BLOCK_SIZE // 2, "max_length": tokens}
    else:
        merge_projections(loaded.model)
        free = torch.cuda.mem_get_info()[0]
        blocks = int(CACHE_SHARE * free) // PagedKVCache.block_bytes(loaded.model, BLOCK_SIZE)
        tokens = min(context, 8192)
        limits |= {"num_blocks": min(blocks, MOST_CACHE_TOKENS // BLOCK_SIZE), "max_length": tokens}
        limits |= {"token_budget": 2048, "compiled": True}
    return PersistentEngine(loaded.model, loaded.tokenizer, **limits)


def name_of(loaded: LoadedModel) -> str:
    """The model's name in the API: of a folder only the last part."""
    folder = Path(loaded.name).expanduser()
    return folder.resolve().name if folder.is_dir() else loaded.name


def parse_arguments(prog: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=prog, description="Serve the OpenAI API.")
    parser.add_argument("--model", default="default", help="default, tiny, a model folder, or a name on the Hub")
    parser.add_argument("--host", default="127.0.0.1", help=f"another than this machine's own needs a key in {KEY}")
    parser.add_argument("--port", default="8000", help="0 takes a free one")
    options = parser.parse_args()
    if not options.port.isdecimal() or len(options.port) > 5 or int(options.port) > 65535:
        raise UserError(f"PORT is {options.port[:40]!r}; give a number from 0 to 65535")
    options.port = int(options.port)
    return options


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    exit_cleanly(main)
