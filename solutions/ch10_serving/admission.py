"""At the door: a caller who finds the server full is told so at once, and when to come back.

Chapter 8's gate lets a caller wait outside. That is right inside a program, whose callers are few and known. Over HTTP
a waiting caller costs a connection, and has often given up, and asked again, long before it is its turn; so the queue
has a bound, and beyond it there is a clear no: status 429 with the header Retry-After.

When will there be room? By Little's law, on average: requests inside = requests that leave per second * seconds that
each stays. Both the places and the seconds are known, so the rate is too.
"""

import math
from collections.abc import Callable

from ch10_serving.api_errors import ApiError

WEIGHT = 0.1  # of the latest stay in the mean: about the last ten count
LONGEST_WAIT = 60  # seconds; who comes back earlier than need be is refused again, which costs nothing


class Admission:
    """Counts the requests that are inside, running or waiting; used in the event loop alone.

    Args:
        places: so many may be inside.
        clock: seconds.

    Attributes:
        inside: how many are.
        mean_stay: seconds that a request stayed, the latest ones counting most; 0 before the first has left.
    """

    def __init__(self, places: int, clock: Callable[[], float]) -> None:
        self.places, self.clock = places, clock
        self.inside = 0
        self.mean_stay = 0.0

    def enter(self, count: int) -> float:
        """Take places for the `count` requests of one call: all of them, or none.

        Returns:
            the time by the clock, which `leave` wants back.

        Raises:
            ApiError: 400 for more than there are at all; 429 if there are not so many now, with the header
                "Retry-After": the seconds of `retry_after`, as a string (`ApiError(status, message, headers={...})`).
        """
        if count > self.places:
            raise ApiError(400, f"this asks for {count} answers at once, and the server has {self.places} places")
        # BEGIN SOLUTION 10.3
        if self.inside + count > self.places:
            headers = {"Retry-After": str(self.retry_after(count))}
            raise ApiError(429, f"{self.inside} of {self.places} places are taken; come back later", headers=headers)
        self.inside += count
        return self.clock()
        # END SOLUTION

    def leave(self, since: float) -> None:
        """A request that has entered at `since` has ended."""
        self.inside -= 1
        stay = self.clock() - since
        self.mean_stay += (stay - self.mean_stay) * (WEIGHT if self.mean_stay else 1.0)

    def give_back(self, count: int) -> None:
        """Places that were taken for requests of which nothing has become."""
        self.inside -= count

    def retry_after(self, count: int) -> int:
        """While it is full: whole seconds until `count` places will be free, by Little's law; 1 to LONGEST_WAIT.

        Requests leave at the rate inside / mean_stay, and so many have to leave that `count` places are free.
        """
        # BEGIN SOLUTION 10.3
        missing = self.inside + count - self.places
        seconds = missing * self.mean_stay / self.inside
        return min(max(math.ceil(seconds), 1), LONGEST_WAIT)
        # END SOLUTION
