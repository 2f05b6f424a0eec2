"""Clients for a measurement, in a process of their own: so many calls at a time, over plain sockets.

    python -m figures.ch10.clients PORT CALLS PROMPT_LENGTH NEW_TOKENS [stream]

All connections are open before the first call is sent. Prints one line of JSON: seconds from the first call to the last
byte, tokens and chunks that came, and the seconds to the first chunk of each call.
"""

import asyncio
import json
import sys
import time

CHUNK = b'"finish_reason":'  # once in each chunk of one choice


def prompt(call: int, length: int) -> list[int]:
    """Token ids that differ from call to call, of any model's vocabulary."""
    return [(call * 7 + place) % 250 + 3 for place in range(length)]


def request(call: int, length: int, new_tokens: int, stream: bool) -> bytes:
    """A call as it goes over the wire; the server closes the connection behind the answer."""
    body = {"model": "measured", "prompt": prompt(call, length), "max_tokens": new_tokens, "temperature": 0}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    data = json.dumps(body).encode()
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


async def main(port: int, calls: int, length: int, new_tokens: int, stream: bool) -> dict[str, object]:
    connections = [await asyncio.open_connection("127.0.0.1", port, limit=2**20) for _ in range(calls)]
    start = time.perf_counter()
    first, tokens, chunks = [], 0, 0

    async def listen(reader: asyncio.StreamReader) -> None:
        nonlocal tokens, chunks
        data = await reader.readuntil(b"\r\n\r\n")
        while part := await reader.read(2**16):
            if not chunks or CHUNK not in data:
                first.append(time.perf_counter() - start)
            chunks += part.count(CHUNK)
            data += part
        tokens += int(data.rpartition(b'"completion_tokens":')[2].partition(b",")[0])

    for call, (_, writer) in enumerate(connections):
        writer.write(request(call, length, new_tokens, stream))
    await asyncio.gather(*(listen(reader) for reader, _ in connections))
    seconds = time.perf_counter() - start
    for _, writer in connections:
        writer.close()
    return {"seconds": seconds, "tokens": tokens, "chunks": chunks, "first_s": sorted(first)[len(first) // 2]}


if __name__ == "__main__":
    port, calls, length, new_tokens = map(int, sys.argv[1:5])
    print(json.dumps(asyncio.run(main(port, calls, length, new_tokens, "stream" in sys.argv[5:]))))
