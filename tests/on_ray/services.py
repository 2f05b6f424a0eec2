"""Services that replicas make in their processes, for the tests."""

import time
from typing import Any

ROWS = 4


def tiny_engine() -> tuple[Any, Any]:
    """An engine with 4 rows and its tokenizer, on the simulated GPU, whether or not there is a real one."""
    from ch09_persistent_batch import PersistentEngine
    from toolkit import simgpu
    from toolkit.models import load_model

    simgpu.reset("eager")
    loaded = load_model("tiny")
    limits = {"max_rows": ROWS, "num_blocks": 256, "max_length": 1024, "stream_text": False}
    return PersistentEngine(loaded.model, loaded.tokenizer, **limits), loaded.tokenizer


def tiny_service() -> Any:
    """Its engine hangs as soon as there is a request of exactly 7 tokens."""
    from ch10_serving import Service

    engine, tokenizer = tiny_engine()
    step = engine.step

    def hanging() -> Any:
        while any(len(request.prompt_ids) == 7 for request in engine.book.requests.values()):
            time.sleep(0.1)
        return step()

    engine.step = hanging
    return Service(engine, tokenizer, "tiny", places=64)
