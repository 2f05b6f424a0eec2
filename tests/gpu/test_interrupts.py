"""On a GPU: a step that is interrupted leaves nothing half done there either (invariant 8)."""

import pytest

from ch02_continuous_batching import SamplingParams
from tests.ch08_full_engine.scripted import MAX_TOKENS, PROMPTS, expected, new_engine
from tests.interrupts import interrupt, lines_of
from toolkit.commands.ledger import Ledger

pytestmark = pytest.mark.gpu
EVERY = 25  # one in so many lines


def test_ctrl_c_on_a_gpu():
    """One engine, interrupted again and again in a cold, a steady and a draining step: all get generate's tokens."""
    engine = new_engine(compiled=False)

    def begin(steps: int) -> Ledger:
        ledger = Ledger()
        for i, prompt in enumerate(PROMPTS):
            engine.add_request(str(i), prompt, SamplingParams(max_tokens=MAX_TOKENS))
            ledger.add(str(i), expected()[i])
        for _ in range(steps):
            ledger.take(engine.step())
        return ledger

    def end(ledger: Ledger) -> None:
        while engine.has_work:
            ledger.take(engine.step())
        ledger.check_idle(engine)

    end(begin(0))
    for steps in (0, 3, 7):
        ledger = begin(steps)
        lines = lines_of(lambda ledger=ledger: ledger.take(engine.step()))
        end(ledger)
        for line in lines[::EVERY]:
            ledger = begin(steps)
            before = ledger.tokens
            if interrupt(lambda ledger=ledger: ledger.take(engine.step()), line, KeyboardInterrupt()):
                assert ledger.tokens == before, "an interrupted step has returned tokens"
            end(ledger)
