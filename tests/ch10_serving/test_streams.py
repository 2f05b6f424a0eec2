"""Streams: the same text in pieces, whole characters only, slow readers, many of them, and an end in every case."""

import asyncio
import json
import socket
import threading

import pytest

from ch02_continuous_batching import FinishReason, RequestOutput
from tests.ch10_serving.live import (
    CHAT,
    LONG,
    Live,
    chat,
    completion,
    events_in,
    parsed,
    read_all,
    spelled,
    streamed_text,
    until,
)
from tests.simulated import needs_simulator

pytestmark = needs_simulator


def test_a_stream_is_the_whole_answer_in_pieces(live):
    whole = live.completion(max_tokens=30)
    answer = live.completion(max_tokens=30, stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *chunks, last = answer.events
    assert last == "[DONE]" and len(chunks) > 1
    assert streamed_text(answer.events) == whole.texts[0]
    assert len({chunk["id"] for chunk in chunks}) == 1 and {chunk["object"] for chunk in chunks} == {"text_completion"}
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons[-1] == "length" and set(reasons[:-1]) <= {None}
    assert all("usage" not in chunk for chunk in chunks)


def test_no_chunk_waits_until_the_one_before_is_acknowledged(live):
    """The system sends each write at once: TCP_NODELAY is set on the server's side of a connection."""
    connection = live.connect()
    until(lambda: live.server.server_state.connections, "the server has the connection")

    def options():
        sockets = [each.transport.get_extra_info("socket") for each in live.server.server_state.connections]
        return [each.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for each in sockets]

    found = live.in_loop(options)
    connection.close()
    assert found and all(found), f"TCP_NODELAY of each connection: {found}"


def test_a_stream_of_a_chat(live):
    """It begins with the role, and its last delta is empty or the last piece."""
    whole = live.post(CHAT, chat(max_tokens=20))
    events = live.post(CHAT, chat(max_tokens=20, stream=True)).events
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert {event["object"] for event in events[:-1]} == {"chat.completion.chunk"}
    assert streamed_text(events) == whole.texts[0]
    assert events[-2]["choices"][0]["finish_reason"] == "length" and events[-1] == "[DONE]"


def test_the_usage_comes_last(live):
    """Who asks for it gets it in a chunk without choices; all others have the word with null."""
    whole = live.completion(["Hello", "a"], n=2)
    *chunks, closing, done = live.completion(
        ["Hello", "a"], n=2, stream=True, stream_options={"include_usage": True}
    ).events
    assert done == "[DONE]" and closing["choices"] == [] and closing["usage"] == whole.json["usage"]
    assert all(chunk["usage"] is None for chunk in chunks)


def test_choices_in_one_stream(live):
    """Several prompts, several choices: each by its index, each with one end."""
    values = {"n": 3, "seed": 5, "temperature": 1.0, "max_tokens": 12}
    whole = live.completion(["Hello", "a"], **values)
    events = live.completion(["Hello", "a"], stream=True, **values).events
    assert [streamed_text(events, index) for index in range(6)] == whole.texts
    ends = [c["index"] for event in events[:-1] for c in event["choices"] if c["finish_reason"]]
    assert sorted(ends) == [*range(6)], f"each choice ends once; ends were sent for {ends}"


def test_a_stop_string_over_chunks(live):
    """Nothing of the stop string is shown, though it may begin in one chunk and end in the next."""
    whole = live.completion(max_tokens=40).texts[0]
    stop = whole[8:11]
    events = live.completion(max_tokens=40, stop=stop, stream=True).events
    assert streamed_text(events) == whole[: whole.index(stop)]
    assert events[-2]["choices"][0]["finish_reason"] == "stop"


def test_characters_of_several_bytes_come_whole(live):
    """The model spells "é漢🙂" byte by byte: a piece ends between two characters, never within one."""
    text = "é漢🙂" * 3 + "."
    tokens = live.tokenizer.encode(text)
    from ch10_serving.chunk_text import ChunkText

    for size in range(1, 8):
        pieces, made = [], ChunkText(live.tokenizer, in_engine=False)
        for start in range(0, len(tokens) - size, size):
            pieces.append(made.more([RequestOutput("", (t,)) for t in tokens[start : start + size]]))
        pieces.append(made.more([RequestOutput("", (), FinishReason.LENGTH, tuple(tokens), text)]))
        assert "".join(pieces) == text
        assert not any("\ufffd" in piece for piece in pieces), f"chunks of {size} tokens: {pieces}"


def test_bytes_that_make_no_character_come_with_the_end(live):
    """A tiny model writes noise: what is streamed is the whole text all the same, for many seeds."""
    for seed in range(4):
        values = {"seed": seed, "temperature": 1.5, "max_tokens": 30}
        assert streamed_text(live.completion(stream=True, **values).events) == live.completion(**values).texts[0]


def test_nothing_is_split_on_the_wire(live):
    """An event's bytes are valid UTF-8 by themselves, also where a chunk of HTTP ends."""
    connection = live.open(completion("äöü", max_tokens=60, stream=True, temperature=1.0, seed=4))
    data = read_all(connection)
    body = data.partition(b"\r\n\r\n")[2]
    chunks = []
    while body:
        size, _, body = body.partition(b"\r\n")
        chunks.append(body[: int(size, 16)])
        body = body[int(size, 16) + 2 :]
    for chunk in chunks[:-1]:
        assert events_in(chunk), "a chunk of HTTP holds whole events"


def test_a_slow_reader_holds_no_other_up(live):
    """A client that reads nothing: its request ends and gives its blocks back, its neighbours do not notice."""
    body = chat("Hello", max_tokens=60, n=16, stream=True, temperature=1.0, seed=1)
    slow = live.connect(small=True)
    slow.sendall(spelled(body, CHAT))
    until(lambda: live.service.admission.inside == 16, "its requests are inside")
    assert live.completion().status == 200
    until(lambda: live.service.admission.inside == 0, "its requests have ended, though it has read nothing")
    assert live.engine.scheduler.blocks.num_free_blocks == live.engine.scheduler.blocks.num_blocks
    assert live.service.streams, "it has been sent everything, so it was not slow"
    events = parsed(read_all(slow)).events
    whole = live.post(CHAT, body | {"stream": False})
    assert [streamed_text(events, i) for i in range(16)] == whole.texts


def test_who_is_late_gets_what_has_come_in_one_piece(live):
    """All tokens are there before the stream looks for the first time: one chunk, not one for each."""
    before = live.engine.metrics.finished["length"]
    with live.held() as let:
        connection = live.open(completion(max_tokens=30, stream=True))
        until(lambda: live.service.streams, "the stream has begun")
        go_on = threading.Event()
        live.service.mailbox.loop.call_soon_threadsafe(go_on.wait, LONG)  # the event loop is busy
        let(60)
        until(lambda: live.engine.metrics.finished["length"] > before, "the request has ended")
        go_on.set()
    chunks = [event for event in parsed(read_all(connection)).events[:-1]]
    assert len(chunks) <= 3, f"30 tokens came at once, in {len(chunks)} chunks"


def test_500_streams_over_16_rows():
    """All of them at the same time, each with its own answer: what it gets alone."""
    live = Live(places=500)
    prompts = [f"{i % 25} bottles" for i in range(500)]
    values = {"max_tokens": 4, "temperature": 1.0}
    alone = {i: live.completion(f"{i} bottles", seed=i, **values).texts[0] for i in range(25)}

    async def stream(i: int) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
        writer.write(spelled(completion(prompts[i], seed=i % 25, stream=True, **values)))
        data = await reader.read()
        writer.close()
        return streamed_text(parsed(data).events)

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*map(stream, range(500)))

    with live.held() as let:
        result: list[str] = []
        clients = threading.Thread(target=lambda: result.extend(asyncio.run(asyncio.wait_for(all_of_them(), 2 * LONG))))
        clients.start()
        until(lambda: len(live.service.streams) == 500, "500 streams are open at a time")
        let(5000)
        clients.join(2 * LONG)
    assert [text == alone[i % 25] for i, text in enumerate(result)] == [True] * 500
    live.check_idle()
    live.stop()


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_fails_in_the_middle(live, stream):
    """The engine ends it with an error: a stream ends with an error event, a whole answer with status 500."""
    with live.held() as let:
        connection = live.open(completion(max_tokens=30, stream=stream))
        neighbour = live.open(completion("a", max_tokens=30))
        until(lambda: live.service.server.gate.inside == 2, "both are inside")
        let(6)
        until(lambda: live.engine.metrics.running == 2, "both run")
        book = live.engine.book
        name = next(n for n, request in book.requests.items() if len(request.prompt_ids) == 5)
        live.service.server.thread.commands.put(
            lambda: book.end(book.requests[name], FinishReason.ERROR, "made up for this test")
        )
        let(60)
        answer = parsed(read_all(connection))
    if stream:
        *_, last = answer.events
        assert last["error"]["type"] == "server_error" and "made up for this test" in last["error"]["message"]
    else:
        assert answer.status == 500 and "made up for this test" in answer.error["message"]
    assert parsed(read_all(neighbour)).texts == live.completion("a", max_tokens=30).texts


def test_a_mistake_of_the_servers_own_ends_a_stream_with_a_word(live, monkeypatch, caplog):
    """Whatever is raised while chunks are made: an error event, no traceback on the wire, and the log says more."""
    from ch10_serving.chunk_text import ChunkText

    def broken(self, outputs):
        raise ZeroDivisionError("a mistake")

    with monkeypatch.context() as patch:
        patch.setattr(ChunkText, "more", broken)
        data = live.completion(stream=True).data
    last = events_in(data)[-1]
    assert last["error"]["message"] == "the server has made a mistake; its log says more"
    assert b"ZeroDivision" not in data and "a mistake" in caplog.text
    assert json.loads(live.completion().data)["choices"]
