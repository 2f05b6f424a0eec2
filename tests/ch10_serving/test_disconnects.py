"""Clients that go away: row and blocks are free within two steps, places too, and no neighbour notices."""

import socket
import struct
from collections.abc import Callable

import pytest

from tests.ch10_serving.live import CHAT, Live, chat, completion, parsed, read_all, spelled, until
from tests.simulated import needs_simulator

pytestmark = needs_simulator


def close(connection: socket.socket) -> None:
    """The polite way: everything that was sent arrives."""
    connection.close()


def reset(connection: socket.socket) -> None:
    """What a process that is killed leaves behind, or a cut cable's router."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def pipelined(connection: socket.socket) -> None:
    """Begin with another request, as if to wait for both, and go."""
    connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3)
    connection.close()


def cancels_arrive(live: Live) -> Callable[[], bool]:
    """Whether the engine's thread has been told of a cancellation, and waits with it for its next step."""
    return lambda: not live.service.server.thread.commands.empty()


@pytest.mark.parametrize("leave", [close, reset, pipelined])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_in_the_middle(live, stream, leave):
    """It runs beside another one; two steps after the server has heard of it, only the other's row remains."""
    neighbour_alone = live.completion("a", max_tokens=40).texts
    blocks = live.engine.scheduler.blocks
    with live.held() as let:
        leaving = live.connect()
        leaving.sendall(spelled(completion("Hello" * 20, max_tokens=300, stream=stream), keep=True))
        until(lambda: live.service.server.gate.inside == 1, "it is inside")
        let(3)
        until(lambda: live.engine.metrics.steps >= 1 and live.engine.metrics.running == 1, "it runs")
        staying = live.open(completion("a", max_tokens=40))
        until(lambda: live.service.server.gate.inside == 2, "both are inside")
        let(4)
        until(lambda: live.engine.metrics.running == 2 and live.stands_still, "both run, and the engine stands still")
        before = live.engine.num_steps
        leave(leaving)
        until(cancels_arrive(live), "the engine is told that the client has gone")
        let(2)
        until(lambda: live.engine.metrics.running == 1, "two steps later only the neighbour runs")
        assert live.engine.num_steps <= before + 2
        used = blocks.num_blocks - blocks.num_free_blocks
        assert used <= 2, f"the neighbour has a few tokens, and {used} blocks are taken"
        until(lambda: live.service.admission.inside == 1, "its place is free")
        let(60)
        assert parsed(read_all(staying)).texts == neighbour_alone


def test_all_choices_of_a_call_go_with_it(live):
    with live.held() as let:
        leaving = live.open(chat(n=8, max_tokens=200, stream=True), CHAT)
        until(lambda: live.service.server.gate.inside == 8, "all are inside")
        let(5)
        until(lambda: live.engine.metrics.running == 8 and live.stands_still, "all run")
        close(leaving)
        until(cancels_arrive(live), "the engine is told")
        let(2)
        until(lambda: live.engine.metrics.running == 0, "none of them runs any more")
    until(lambda: live.engine.metrics.finished["cancelled"] >= 8, "all were cancelled")


def test_while_it_waits_for_a_row(live):
    """Behind 16 that run: it leaves the queue, and those that run are served."""
    with live.held() as let:
        running = [live.open(completion(f"{i}", max_tokens=5)) for i in range(16)]
        until(lambda: live.service.server.gate.inside == 16, "16 are inside")
        waiting = live.open(completion("late", max_tokens=5))
        until(lambda: live.service.server.gate.inside == 17, "one waits behind them")
        let(2)
        until(lambda: live.engine.metrics.waiting == 1 and live.stands_still, "one waits for a row")
        close(waiting)
        until(cancels_arrive(live), "the engine is told")
        let(2)
        until(lambda: live.engine.metrics.waiting == 0, "no request waits")
        let(60)
        answers = [parsed(read_all(each)) for each in running]
    assert [answer.status for answer in answers] == [200] * 16


def test_before_anything_was_computed(live):
    """It connects, asks and is gone, many times over: no place is lost."""
    for i in range(3 * live.service.admission.places):
        reset(live.open(completion("Hello", max_tokens=100, stream=bool(i % 2))))
    assert live.get("/health").status == 200  # it came after them, so that all of them were seen
    until(lambda: live.service.admission.inside == 0, "all places are free again")
    assert live.completion().status == 200


def test_with_half_a_request(live):
    """It goes while its body is still coming: nothing was begun for it."""
    connection = live.connect()
    connection.sendall(
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b'Content-Length: 500\r\n\r\n{"model": "tiny", "prompt": "'
    )
    close(connection)
    assert live.completion().status == 200


def test_a_slow_reader_that_goes(live):
    """It has read nothing, so that the server waits for it; then it goes."""
    connection = live.connect(small=True)
    connection.sendall(spelled(chat(n=16, max_tokens=400, stream=True), CHAT))
    until(lambda: live.engine.metrics.running == 16, "its choices run")
    reset(connection)
    until(lambda: not live.service.streams and live.service.admission.inside == 0, "nothing of it is left")
