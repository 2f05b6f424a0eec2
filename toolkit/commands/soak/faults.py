"""An engine in which steps fail when they are told to."""

from typing import Any


class Planted(MemoryError):
    """An error that a step was told to raise."""


class FaultyExecutor:
    """Another executor, and errors in front of it.

    Attributes:
        faults: names of functions; one by one they raise, each the next time that it is called.
    """

    def __init__(self, executor: Any) -> None:  # noqa: ANN401 (an Executor of whichever code runs)
        self.executor = executor
        self.faults: list[str] = []

    def launch(self, batch: Any) -> Any:  # noqa: ANN401
        self.fail_in("launch")
        return self.executor.launch(batch)

    def wait(self, batch: Any, handle: Any) -> list[int]:  # noqa: ANN401
        self.fail_in("wait")
        token_ids: list[int] = self.executor.wait(batch, handle)
        return token_ids

    def drain(self) -> None:
        self.executor.drain()

    def fail_in(self, place: str) -> None:
        if self.faults and self.faults[0] == place:
            self.faults.pop()
            raise Planted(f"planted in {place}")


def faulty_engine() -> type:
    """Chapter 9's engine, with errors to be planted in its executor; it gets over these and over no others."""
    from ch08_full_engine import FullEngine
    from ch09_persistent_batch.build import build

    class FaultyEngine(FullEngine):
        def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
            self.num_preempted = 0
            super().__init__(*arguments, build=build, **options)
            self.executor = FaultyExecutor(self.executor)
            preempt = self.scheduler.preempt

            def counted(request: Any) -> None:  # noqa: ANN401
                self.num_preempted += 1
                preempt(request)

            self.scheduler.preempt = counted  # type: ignore[method-assign]

        def recover(self, error: Exception) -> None:
            if not isinstance(error, Planted):
                raise error  # a mistake of the engine's own, which it would get over
            super().recover(error)

    return FaultyEngine
