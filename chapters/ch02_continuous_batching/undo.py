"""What it takes to take a step back: a step is all or nothing, whatever is raised in it, at whichever line.

Ctrl-C in a notebook comes between any two lines: when a request has been let in and has no row yet, when its token is
appended and its output not made, when a block is taken from one list and not yet in the other. Repairing such half-done
things one by one cannot work. What cannot be wrong is small: the requests that have not had their last output, their
tokens as of the last step that was returned, and whether each one waits or runs. From these everything is made again,
and what was on its way is computed once more. It comes out the same, since a token depends on nothing but the request.

`Engine.step` sees to that; the request book keeps the `Undo` of the step that is going on, and takes it back.
"""

from dataclasses import dataclass, field

from ch02_continuous_batching.batch import Batch
from ch02_continuous_batching.request import Request, RequestOutput


@dataclass
class Undo:
    """What a step has changed. Nothing is copied for it: a row says how many tokens its request had.

    Attributes:
        outputs: those that were kept for this step to return.
        committed: the batch that the step commits; None before it does.
        ended: the requests that have had their last output in this step.
    """

    outputs: tuple[RequestOutput, ...]
    committed: Batch | None = None
    ended: list[Request] = field(default_factory=list)
