"""The command stepahead-serve: the engine behind the OpenAI API, over HTTP.

    stepahead-serve [--model NAME] [--port 8000] [--host 127.0.0.1]

It needs the extra `serve`: in the repository, pip install ".[serve]". On CUDA where there is a GPU, else on the
simulated one.
"""

from importlib.util import find_spec

from toolkit.commands.serve import main as serve
from toolkit.errors import UserError, exit_cleanly

NAME = "stepahead-serve"
NEEDED = ("fastapi", "prometheus_client", "uvicorn")


def run() -> None:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        lacks = ", ".join(missing).replace("_", "-")
        raise UserError(f'{NAME} needs {lacks}; in the repository, pip install ".[serve]" installs what it needs')
    serve(NAME)


def main() -> None:
    exit_cleanly(run)
