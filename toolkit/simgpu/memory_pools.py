"""torch.cuda.MemPool: memory apart from the rest, for tensors made within `use_mem_pool` and for graphs."""

from collections.abc import Iterator
from contextlib import contextmanager

from toolkit.simgpu.memory import Pool
from toolkit.simgpu.runtime import runtime


class MemPool:
    """A pool. `id` is what a capture takes as its pool."""

    def __init__(self, allocator: object = None, use_on_oom: bool = False, no_split: bool = False) -> None:
        if allocator is not None:
            raise NotImplementedError("simgpu does not model an allocator of one's own in torch.cuda.MemPool")
        self.id: Pool = runtime.memory.new_graph_pool()


@contextmanager
def use_mem_pool(pool: MemPool, device: object = None) -> Iterator[None]:
    """What this thread allocates in the body comes from `pool`."""
    before = getattr(runtime.thread, "pool", None)
    runtime.thread.pool = pool.id
    try:
        yield
    finally:
        runtime.thread.pool = before


def pool_of_thread() -> Pool:
    """The pool of what is allocated outside of captures."""
    return getattr(runtime.thread, "pool", None) or runtime.memory.default_pool
