"""An engine in which steps fail when they are told to."""

from typing import Any


class Planted(MemoryError):
    """An error that a step was told to raise."""


def faulty_engine() -> type:
    """The full engine; `faults` are raised one by one, each the next time that its function is called."""
    from ch08_full_engine import FullEngine

    class FaultyEngine(FullEngine):
        def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
            self.faults: list[str] = []
            self.num_preempted = 0
            super().__init__(*arguments, **options)
            preempt = self.scheduler.preempt

            def counted(request: Any) -> None:  # noqa: ANN401
                self.num_preempted += 1
                preempt(request)

            self.scheduler.preempt = counted  # type: ignore[method-assign]

        def launch(self, batch: Any) -> Any:  # noqa: ANN401
            self.fail_in("launch")
            return super().launch(batch)

        def wait_for(self, slot: Any) -> None:  # noqa: ANN401
            self.fail_in("wait_for")
            super().wait_for(slot)

        def fail_in(self, place: str) -> None:
            if self.faults and self.faults[0] == place:
                self.faults.pop()
                raise Planted(f"planted in {place}")

        def recover(self, error: Exception) -> None:
            if not isinstance(error, Planted):
                raise error  # a mistake of the engine's own, which it would get over
            super().recover(error)

    return FaultyEngine
