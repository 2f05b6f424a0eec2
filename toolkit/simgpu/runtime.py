"""The simulated GPU's state, and the three things that can happen: a launch, a touch by the host, a wait by the host.

There is one device and one `runtime`. Several host threads may issue work, one operation after another; they count as
one actor, as if whatever one of them does came after what the others did before.
"""

import itertools
import threading
from collections.abc import Callable, Sequence

import torch

from toolkit.simgpu.backward import Passes
from toolkit.simgpu.blocks import Footprint, fill_unwritten, forget
from toolkit.simgpu.buffer_sets import BufferSets
from toolkit.simgpu.captures import Capture
from toolkit.simgpu.clock import Clock, Costs, Span
from toolkit.simgpu.edges import Edge
from toolkit.simgpu.errors import CaptureError, DeviceError, Party, RaceError
from toolkit.simgpu.locking import one_at_a_time
from toolkit.simgpu.memory import Memory
from toolkit.simgpu.operations import Operation, failure
from toolkit.simgpu.ordering import Actor, Wait
from toolkit.simgpu.policies import make_policy
from toolkit.simgpu.queues import Moment, Queue
from toolkit.simgpu.races import Detector
from toolkit.simgpu.sites import Site, caller_site, forget_ranks
from toolkit.simgpu.synchronisations import Synchronisation


class Runtime:
    """Everything that `reset` makes again. Attributes are for this package; learners use the functions of `simgpu`."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.lock = threading.RLock()  # held for the length of an operation's issue, or of a wait
        self.run = 0
        self.streams: list[Queue] = []
        self.launched = threading.local()  # .declared: in a thread that runs a launched function, what it may touch
        self._start("eager", "raise", Costs())

    def _start(self, policy: str, on_race: str, costs: Costs) -> None:
        self.policy_name, self.policy = policy, make_policy(policy)
        self.on_race, self.clock = on_race, Clock(costs)
        self.run += 1
        self.host = Actor("host")
        self.synchronisations: list[Synchronisation] = []
        self.edges: list[Edge] = []
        self.buffer_sets = BufferSets()
        self.sync_debug_mode = "default"
        self.streams.clear()
        self.detector = Detector(self.host, self.streams, self.run)
        self.own_streams: dict[str, Queue] = {}  # those that the simulator has made by itself, by name
        self.passes = Passes(self.order)
        self.thread = threading.local()  # .stack: the streams entered by this thread
        self.capture: Capture | None = None
        self.device_error: DeviceError | None = None
        self.numbers, self.places = itertools.count(1), itertools.count(1)
        self.rng = torch.Generator("cpu").manual_seed(0)
        self.memory.reset()

    def reset(self, policy: str, on_race: str, costs: Costs) -> None:
        """Let the old run finish, then begin a new one. Tensors stay valid; streams, events and graphs do not."""
        make_policy(policy)  # a wrong argument must not cost the old run
        if on_race not in ("raise", "collect"):
            raise ValueError(f'on_race must be "raise" or "collect", not {on_race!r}')
        self.capture = None
        for stream in self.streams:
            stream.moment().finish()
            stream.ended = True
        self.policy.close()
        forget_ranks()
        self._start(policy, on_race, costs)

    @one_at_a_time
    def launch(
        self,
        stream: Queue,
        name: str,
        work: Callable[[], object],
        reads: Sequence[Footprint],
        writes: Sequence[Footprint],
        engine: str = "compute",
        cost_ms: float | None = None,
        in_graph: Site | None = None,
    ) -> None:
        """Queue `work` on `stream`: check it for races, price it, and hand it to the policy (or to a capture).

        Args:
            in_graph: for an operation of a graph, the line that captured it. It costs the host no launch of its own.
        """
        self.refuse_in_box(name)
        if self.device_error is not None:
            raise self.device_error
        stream.must_be_current_run()
        if cost_ms is None:
            read, written = (sum(each.region.nbytes for each in side) for side in (reads, writes))
            # A kernel's bytes go through the device's memory twice, a copy's over the bus once.
            nbytes = read + written if engine == "compute" else max(read, written)
            cost_ms = self.clock.costs.of(name, engine, nbytes)
        if (capture := self.capture_on(stream)) is not None:
            capture.add(stream, name, work, reads, writes, engine, cost_ms)
            return
        forget(writes)
        site = in_graph or caller_site()
        if in_graph is None:
            self.clock.host_launch()
        stream.learn(self.host.knows)  # whatever the host did or waited for comes before what it launches now
        stream.count_operation()
        touched = self.buffer_sets.touched(reads, writes)
        span = self.clock.device_work(name, stream.name, engine, stream.ready_ms, cost_ms, touched, site)
        self._check(reads, writes, stream, span, site)
        work = fill_unwritten(reads, writes, work, self.detector.is_in_use(stream))
        stream.ready_ms = span.end
        operation = Operation(name, stream.name, site, next(self.numbers), work, stream.take_dependencies())
        stream.last = operation
        self.policy.submit(operation, stream)

    @one_at_a_time
    def host_touch(self, name: str, reads: Sequence[Footprint], writes: Sequence[Footprint]) -> None:
        """The host reads or writes pinned memory, now."""
        self.refuse_in_box(name)
        self.policy.host_step()
        site, now = caller_site(), self.clock.now
        self._check(reads, writes, self.host, Span(name, "host", now, now), site)

    @one_at_a_time
    def host_wait(self, moment: Moment, what: str, hidden: bool = False) -> None:
        """The host waits until a stream has reached `moment`, and learns all that happened before it."""
        self.refuse_in_capture(what)
        self.refuse_in_box(what)
        site = caller_site()
        if hidden and self.sync_debug_mode == "error":
            raise RuntimeError(f"called a synchronizing operation: {what} at {site}")
        moment.finish()
        self.host.learn(moment.knows)
        self.clock.host_call()
        waited = self.clock.host_waits(moment.ms, site)
        self.synchronisations.append(Synchronisation(what, site, hidden, waited))
        self.raise_device_error()

    def next_place(self) -> int:
        """A place in the order in which the program issues its operations, records and waits."""
        return next(self.places)

    def note_wait(self, waiter: Actor, wait: Wait) -> None:
        """Remember what `waiter` has just waited for: later reports say so, and earlier ones that it came too late."""
        waiter.waits[None if wait.record is None else wait.record.stream] = wait
        if (first := wait.record) is not None:
            reached = waiter.next_ms if isinstance(waiter, Queue) else self.clock.now
            self.edges.append(Edge(first.stream.name, waiter.name, first.ms, reached, first.site, wait.site))
        self.detector.explain_late(waiter, wait)

    def capture_on(self, stream: Queue) -> Capture | None:
        """The capture that `stream` takes part in."""
        return self.capture if self.capture is not None and self.capture.captures(stream) else None

    def order(self, after: Queue, later: Queue) -> None:
        """What is queued on `later` from now on comes after all that is queued on `after`, in a capture too."""
        if (capture := self.capture_on(after)) is not None:
            capture.wait(later, capture.record(after))
        elif self.capture_on(later) is not None:
            raise CaptureError(f"dependency created on uncaptured work of {after.name} while capturing a graph")
        else:
            later.wait_for(after.moment())

    def refuse_in_capture(self, what: str) -> None:
        if self.capture is not None and self.capture.forbids_waits():
            raise CaptureError(f"operation not permitted when stream is capturing: {what}, at {caller_site()}")

    def in_box(self) -> bool:
        """Is this thread running a launched function?"""
        return getattr(self.launched, "declared", None) is not None

    def refuse_in_box(self, what: str) -> None:
        if self.in_box():
            raise CaptureError(f"{what} is not permitted in a launched function, itself one operation of the device")

    def raise_device_error(self) -> None:
        """At a synchronisation: surface what failed on the device. From then on every launch raises it too."""
        if self.device_error is None and self.policy.failures:
            self.device_error = failure(*self.policy.failures[0])
        if self.device_error is not None:
            raise self.device_error

    def _check(
        self, reads: Sequence[Footprint], writes: Sequence[Footprint], actor: Actor, span: Span, site: Site
    ) -> None:
        when = self.next_place()
        reader, writer = (Party(span.name, actor.name, site, each, span.start, span.end) for each in (False, True))
        touched = [*((each, reader) for each in reads), *((each, writer) for each in writes)]
        found = self.detector.check(touched, actor, when)
        actor.last_work = when
        if found and self.on_race == "raise":
            raise RaceError(found[0])


runtime = Runtime()
