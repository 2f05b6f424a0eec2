"""A step is all or nothing: whatever is raised in it, at whichever line, the engine can go on afterwards.

Ctrl-C in a notebook comes between any two lines: when a request has been let in and has no row yet, when its token is
appended and its output not made, when a block is taken from one list and not yet in the other. So nobody repairs such
half-done things one by one. What cannot be wrong is small: the requests that have not had their last output, their
tokens as of the last step that was returned, and whether each one waits or runs. From these everything is made again,
and what was on its way is computed once more. It comes out the same, since a token depends on nothing but the request.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ch02_continuous_batching.batch import Batch
from ch02_continuous_batching.request import Request, RequestOutput, RequestStatus

if TYPE_CHECKING:
    from ch02_continuous_batching.engine import Engine


class Undo:
    """What takes a step back. Nothing is copied for it: a row says how many tokens its request had.

    Attributes:
        outputs: those that the engine kept for this step to return.
        committed: the batch that the step commits; None before it does.
        failed: the requests to which that batch brings no token: each ends by itself (`Engine.fail`).
    """

    def __init__(self, outputs: Sequence[RequestOutput] = ()) -> None:
        self.outputs = list(outputs)
        self.committed: Batch | None = None
        self.failed: list[Request] = []

    def apply(self, engine: "Engine") -> None:
        """Take outputs and tokens of the step back, and with them the ends that they brought; then `restart`."""
        engine.outputs, engine.torn = list(self.outputs), True
        for row in self.committed.sampling_rows if self.committed is not None else ():
            request = row.request
            num_output_ids = row.start + row.num_tokens - len(request.prompt_ids)
            if len(request.output_ids) > num_output_ids:  # of a row that was dropped, the token is not there
                del request.output_ids[num_output_ids:]
                self._resume(request, engine)
        for request in self.failed:
            self._resume(request, engine)
        engine.restart()

    def _resume(self, request: Request, engine: "Engine") -> None:
        request.finish_reason = None
        if request.status is RequestStatus.FINISHED:
            request.status = RequestStatus.RUNNING
        engine.requests[request.request_id] = request


def all_or_nothing(engine: "Engine") -> list[RequestOutput]:
    """One `engine.advance()`.

    Returns:
        the outputs that the engine kept (`Engine.outputs`), and those of the step.
    """
    if engine.torn:  # a second Ctrl-C came while the engine got over the first
        engine.restart()
    engine.undo = undo = Undo(engine.outputs)
    try:
        brought = engine.advance()
        outputs = [*engine.outputs, *brought]
        engine.outputs, engine.undo = [], Undo()  # an idle engine keeps no request that has ended
        return outputs
    except BaseException:
        undo.apply(engine)
        raise
