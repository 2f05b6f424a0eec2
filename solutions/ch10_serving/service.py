"""The engine as a service: everything that the routes need, in one object, for as long as the application runs."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from transformers import PreTrainedTokenizerBase

from ch08_full_engine import FullEngine, Server
from ch10_serving.admission import Admission
from ch10_serving.api_errors import ApiError
from ch10_serving.call import Call
from ch10_serving.mailbox import Mailbox
from ch10_serving.metrics import HttpMetrics
from ch10_serving.prompts import PromptReader
from toolkit.errors import UserError


class Service:
    """An engine, its thread, the door in front of it and the mailbox behind it.

    Args:
        engine: from `running` on, only the service may call it.
        tokenizer: None if the model has none; then prompts are token ids, and answers have no text.
        model: its name in the API.
        places: requests that may be inside, running or waiting.

    Attributes:
        streams: the answers that are being streamed.
        stopping: no new requests are taken.
    """

    server: Server
    mailbox: Mailbox

    def __init__(self, engine: FullEngine, tokenizer: PreTrainedTokenizerBase | None, model: str, places: int) -> None:
        if tokenizer is not None and getattr(tokenizer, "backend_tokenizer", None) is None:
            raise UserError(f"model {model}: {type(tokenizer).__name__} has no fast backend, and text needs one")
        self.engine, self.tokenizer, self.model = engine, tokenizer, model
        self.created = int(time.time())
        entrance = engine.entrance
        pool = entrance.config.num_blocks * entrance.config.block_size
        self.reader = PromptReader(tokenizer, min(entrance.max_length, pool), entrance.vocab_size)
        self.admission = Admission(places, time.monotonic)
        self.metrics = HttpMetrics(engine, self.admission)
        self.streams: set[object] = set()
        self.stopping = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The engine's thread runs. At the end it serves those who are inside, and closes."""
        self.mailbox = Mailbox(asyncio.get_running_loop())
        self.server = Server(self.engine, self.admission.places, self.ring)
        try:
            yield
        finally:
            self.stopping = True
            # In a thread, for the outputs of those inside come through this event loop.
            await asyncio.to_thread(self.server.close)

    def ring(self) -> None:
        """In the engine's thread, which may outlive the event loop if the process is told twice to end."""
        if not self.mailbox.loop.is_closed():
            self.mailbox.ring()

    def open_call(self, size: int, streamed: bool) -> Call:
        """A call that will start so many requests. Raises ApiError if there are not so many places."""
        return Call(self.server, self.mailbox, self.admission, self.metrics, size, streamed)

    def cancel_all(self) -> None:
        """Take back what is inside; those who wait for it are told so."""
        for name in list(self.server.thread.callbacks):
            self.server.cancel(name)

    def trouble(self) -> str:
        """Why no requests are served; "" if they are."""
        if self.stopping:
            return "the server is stopping"
        return self.engine.stopped or "the engine has ended; restart the server" * self.server.thread.closed

    def check_serving(self) -> None:
        """Raises ApiError if no requests are served."""
        if trouble := self.trouble():
            raise ApiError(503, trouble, headers={"Retry-After": "10"})

    def check_model(self, name: str) -> None:
        if name != self.model:
            raise ApiError(404, f"there is no such model here; the server has {self.model}", "model", "model_not_found")
