"""Asynchronous continuous batching: the host prepares the next batch while the device computes the one before.

    from stepahead import Engine, SamplingParams, load_model

    loaded = load_model("path/to/model", device="cuda")
    engine = Engine(loaded.model, loaded.tokenizer, max_rows=64, num_blocks=4096)
    prompt = loaded.tokenizer("The sea is")["input_ids"]
    for output in engine.generate([prompt], SamplingParams(max_tokens=32)):
        print(output.text)

Where there is no NVIDIA GPU, load the model with device="cpu"; the engine then runs on a simulated GPU, right and slow.

Engine           the engine: add_request, step, has_work, cancel, generate; its arguments are those of `FullEngine`
Server           the same for callers in other threads and in coroutines: submit, stream, cancel, close
SamplingParams   how one request's tokens are chosen, and when it stops
RequestOutput    what a step brought one request; FinishReason says why it ended
load_model       a model by its folder or its name on the Hugging Face Hub
UserError        raised for all that the caller can mend; its message is one line

What is imported loads torch; `import stepahead` alone does not, since pytest does so wherever this is installed.
This package is made from the repository of a course, chapter by chapter: each module's docstring says what it is for.
"""

from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit.commands.library.stepahead.interface import (
        Engine,
        FinishReason,
        RequestOutput,
        SamplingParams,
        Server,
        UserError,
        load_model,
    )

__version__ = metadata.version("stepahead")

__all__ = [
    "Engine",
    "FinishReason",
    "RequestOutput",
    "SamplingParams",
    "Server",
    "UserError",
    "load_model",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 (a class or a function)
    if name in __all__:
        from toolkit.commands.library.stepahead import interface

        return getattr(interface, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
