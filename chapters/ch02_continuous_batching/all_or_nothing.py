"""A step is all or nothing: whatever is raised in it, at whichever line, the engine can go on afterwards.

Ctrl-C in a notebook comes between any two lines: when a request has been let in and has no row yet, when its token is
appended and its output not made, when a block is taken from one list and not yet in the other. So nobody repairs such
half-done things one by one. What cannot be wrong is small: the requests that have not had their last output, their
tokens as of the last step that was returned, and whether each one waits or runs. From these everything is made again,
and what was on its way is computed once more. It comes out the same, since a token depends on nothing but the request.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ch02_continuous_batching.request import Request, RequestOutput, RequestStatus

if TYPE_CHECKING:
    from ch02_continuous_batching.batch import Batch
    from ch02_continuous_batching.engine import Engine


class Undo:
    """What a step changes, noted before it does.

    Attributes:
        outputs: those that the engine kept for this step to return.
        num_output_ids: for each request that the committed batch brings a token, how many it had.
    """

    def __init__(self, outputs: Sequence[RequestOutput] = ()) -> None:
        self.outputs = list(outputs)
        self.num_output_ids: dict[Request, int] = {}

    def note(self, batch: "Batch") -> None:
        """This batch is about to be committed."""
        self.num_output_ids = {
            row.request: len(row.request.output_ids) for row in batch.sampling_rows if row.epoch == row.request.epoch
        }

    def apply(self, engine: "Engine") -> None:
        """Take outputs and tokens of the step back, and with them the ends that they brought; then `restart`."""
        engine.outputs, engine.torn = list(self.outputs), True
        for request, count in self.num_output_ids.items():
            del request.output_ids[count:]
            request.finish_reason = None
            if request.status is RequestStatus.FINISHED:
                request.status = RequestStatus.RUNNING
            engine.requests[request.request_id] = request
        engine.restart()


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
