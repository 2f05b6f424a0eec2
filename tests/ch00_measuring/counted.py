"""Numbers that count how often they are compared: the work of a solution, the same on any machine."""


class Counted(float):
    """A float of which no more comparisons are allowed than `allow` said, all of the kind together."""

    allowed = left = 0

    @classmethod
    def allow(cls, comparisons: int) -> None:
        cls.allowed = cls.left = comparisons

    def _count(self) -> None:
        Counted.left -= 1
        assert Counted.left >= 0, (
            f"more than {Counted.allowed:,} comparisons: each interval is compared with most of the others, and a "
            "recording has a hundred thousand of them. Sort once; then compare each with the stretch before it only"
        )

    def __lt__(self, other: float) -> bool:
        self._count()
        return float.__lt__(self, other)

    def __le__(self, other: float) -> bool:
        self._count()
        return float.__le__(self, other)

    def __gt__(self, other: float) -> bool:
        self._count()
        return float.__gt__(self, other)

    def __ge__(self, other: float) -> bool:
        self._count()
        return float.__ge__(self, other)

    def __eq__(self, other: object) -> bool:
        self._count()
        return float.__eq__(self, other)

    __hash__ = float.__hash__
