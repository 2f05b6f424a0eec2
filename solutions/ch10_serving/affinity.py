"""Which replica gets a request, so that what it begins with is there already: prefix-affine routing.

Requests that begin alike (a long system prompt, a conversation that goes on) share the blocks of their beginning, but
only within one engine. If each request goes to the least loaded of N replicas, a beginning is computed N times and kept
N times. So what begins alike should go to the same replica, and no table should be needed for it. *Rendezvous hashing*
(Thaler and Ravishankar 1996) gives each pair of a beginning and a replica a number, and the replica with the highest
number is the beginning's home. When a replica goes, only the beginnings that had their home there move, each to the
next one in its own order; a replica that comes takes some from all the others.

But if all requests have the same system prompt, all go to one replica and the others idle. So the load is *bounded*
(Mirrokni, Thorup and Zadimoghaddam 2017): a replica that has SLACK times its share is passed over.
"""

import hashlib
import json
import math
from collections.abc import Collection, Mapping
from typing import Any

SLACK = 1.25  # how much more than the mean a replica may have
CHARACTERS = 256  # of a beginning; requests that differ later count as the same


def beginning(body: dict[str, Any]) -> bytes:
    """What a request to the API begins with: of its messages or its prompt, as JSON; b"" if it has neither."""
    prompt = body.get("messages") or body.get("prompt")
    return json.dumps(prompt)[:CHARACTERS].encode() if prompt else b""


def weight(key: bytes, replica: str) -> bytes:
    """The number of a pair: the same in all processes and on all days, as Python's own `hash` is not."""
    return hashlib.blake2b(key + b"\0" + replica.encode(), digest_size=8).digest()


def ranking(key: bytes, replicas: Collection[str]) -> list[str]:
    """The replicas in the order in which a beginning `key` wants them: by `weight`, the highest first.

    The order of two replicas depends on nothing but the two and the key: when a third one comes or goes, it stays.
    """
    # BEGIN SOLUTION 10.4
    return sorted(replicas, key=lambda replica: weight(key, replica), reverse=True)
    # END SOLUTION


def choose(key: bytes, loads: Mapping[str, int]) -> str:
    """The replica for a request that begins with `key`: the first of its ranking that is not overloaded with it.

    With this request there are sum(loads) + 1. No replica may have more of them than SLACK times the mean, rounded up;
    the request itself counts. There is always a replica that may take one more.

    Args:
        loads: requests that each replica has now, by name; at least one replica.
    """
    # BEGIN SOLUTION 10.4
    bound = math.ceil(SLACK * (sum(loads.values()) + 1) / len(loads))
    return next(replica for replica in ranking(key, loads) if loads[replica] < bound)
    # END SOLUTION
