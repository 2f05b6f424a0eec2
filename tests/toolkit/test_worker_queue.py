"""The stand-in device: one thread, one queue."""

import threading

import pytest

from toolkit.worker_queue import WorkerQueue


def test_a_launch_returns_before_the_work_has_run():
    """The work runs in another thread, in launch order, and waits for nothing but its turn."""
    queue, gate, order = WorkerQueue(), threading.Event(), []
    queue.launch(gate.wait)
    queue.launch(lambda: order.append((1, threading.current_thread().name)))
    queue.launch(lambda: order.append((2, threading.current_thread().name)))
    passed = queue.Event(enable_timing=True)
    passed.record()
    assert (order, passed.query()) == ([], False), "the gate is closed, so nothing behind it may have run"
    gate.set()
    queue.synchronize()
    assert [number for number, _ in order] == [1, 2] and passed.query()
    assert threading.current_thread().name not in {thread for _, thread in order}


def test_times_are_read_only_when_reached():
    """elapsed_time refuses an event that the worker has not passed, and one never recorded."""
    queue, gate = WorkerQueue(), threading.Event()
    start, end = queue.Event(enable_timing=True), queue.Event(enable_timing=True)
    start.record()
    queue.launch(gate.wait)
    end.record()
    with pytest.raises(RuntimeError, match="not been reached"):
        start.elapsed_time(end)
    gate.set()
    end.synchronize()
    assert start.elapsed_time(end) > 0
    with pytest.raises(RuntimeError, match="not been reached"):
        start.elapsed_time(queue.Event())


def test_a_failure_surfaces_at_the_next_synchronise():
    """The launch of failing work succeeds; synchronise raises its error once; the queue goes on."""
    queue, done = WorkerQueue(), []
    queue.launch(lambda: 1 / 0)
    queue.launch(lambda: done.append(1))
    with pytest.raises(ZeroDivisionError):
        queue.synchronize()
    queue.synchronize()
    assert done == [1]
