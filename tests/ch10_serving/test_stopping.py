"""The end: those inside are served, others are refused, and what is lost is lost with a word."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from ch10_serving import Limits, listen
from tests.ch10_serving.live import LONG, Live, completion, parsed, read_all, until
from tests.simulated import needs_simulator
from toolkit import course
from toolkit.course import ROOT
from toolkit.errors import UserError

pytestmark = needs_simulator


@pytest.fixture
def stopping() -> Iterator[Live]:
    """A server that its test stops."""
    from toolkit import simgpu

    simgpu.reset("eager")
    live = Live(limits=Limits(drain=0.5))
    yield live
    live.stop()


def test_those_inside_are_served_and_others_refused(stopping):
    """Told to stop while one runs and one streams: both get all they asked for, others 503; then the door is closed."""
    live = stopping
    whole = live.completion(max_tokens=40).texts[0]
    object.__setattr__(live.server.limits, "drain", LONG)
    with live.held() as let:
        inside = [live.open(completion(max_tokens=40, stream=stream)) for stream in (False, True)]
        until(lambda: live.service.server.gate.inside == 2, "both are inside")
        live.server.should_exit = True
        until(lambda: live.service.stopping, "the server knows that it is to stop")
        late = live.completion()
        assert late.status == 503 and late.headers["retry-after"] and "is stopping" in late.error["message"]
        assert live.get("/health").status == 503, "a load balancer sends no more"
        let(100)
        answers = [parsed(read_all(each)) for each in inside]
    assert answers[0].texts == [whole]
    assert answers[1].events[-1] == "[DONE]"
    live.thread.join(LONG)
    with pytest.raises(ConnectionRefusedError):
        live.connect()
    assert not live.service.server.thread.is_alive()


def test_who_takes_too_long_is_told(stopping):
    """The time is up: a stream ends with an error event, a whole answer with 503."""
    live = stopping
    with live.held() as let:
        inside = [live.open(completion(max_tokens=400, stream=stream)) for stream in (False, True)]
        until(lambda: live.service.server.gate.inside == 2, "both are inside")
        let(5)
        until(lambda: live.engine.metrics.running == 2 and live.stands_still, "both run")
        live.server.should_exit = True
        until(lambda: not live.service.server.thread.commands.empty(), "they are taken back")
        let(5)
        whole, stream = [parsed(read_all(each)) for each in inside]
    assert whole.status == 503 and "the server is stopping" in whole.error["message"]
    assert "the server is stopping" in stream.events[-1]["error"]["message"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_engine_that_dies(stopping):
    """Its thread ends in the middle: those inside are told, later ones refused with 503, and /health says it."""
    live = stopping

    def dying() -> None:
        raise SystemExit("made up")

    with live.held() as let:
        inside = [live.open(completion(max_tokens=400, stream=stream)) for stream in (False, True)]
        until(lambda: live.service.server.gate.inside == 2, "both are inside")
        let(5)
        until(lambda: live.engine.metrics.running == 2 and live.stands_still, "both run")
        live.engine.step = dying
        let(1)
        whole, stream = [parsed(read_all(each)) for each in inside]
    assert whole.status == 500 and "the engine has ended: made up" in whole.error["message"]
    assert "the engine has ended: made up" in stream.events[-1]["error"]["message"]
    late = live.completion()
    assert late.status == 503 and "restart the server" in late.error["message"]
    assert (live.get("/health").status, live.get("/v1/models").status) == (503, 200)
    assert live.service.admission.inside == 0


def test_who_comes_while_the_engine_dies(stopping):
    """Its thread has told those inside, and has not ended yet: a request that comes now gets 503 as well, not 400."""
    live = stopping
    thread = live.service.server.thread
    with thread.lock:
        thread.closed = True  # as the thread does it before it tells anybody
    assert thread.is_alive()
    for check in (live.service.check_serving, lambda: None):  # a call may have passed the door a moment earlier
        live.service.check_serving = check
        answer = live.completion()
        assert answer.status == 503, answer.data
    assert live.service.admission.inside == 0
    thread.closed = False


def test_a_device_that_is_lost(stopping):
    """An error that the device does not get over: 500 for those inside, then 503 with the advice to restart."""
    live = stopping
    forward = live.engine.executor.forward
    compute, count = forward.forward, iter(range(1000))

    def failing(*arguments: object) -> object:
        if next(count) == 3:
            raise RuntimeError("made up")
        return compute(*arguments)

    forward.forward = failing
    answer = live.completion(max_tokens=100)
    assert answer.status == 500 and "not served to its end" in answer.error["message"]
    late = live.completion()
    assert late.status == 503 and "restart the process" in late.error["message"]


def test_a_port_that_is_taken():
    with listen("127.0.0.1", 0) as taken, pytest.raises(UserError, match="cannot listen there: .*take another port"):
        listen("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(UserError, match="cannot listen there"):
        listen("no.such.host.invalid", 0)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM that a process could handle")
def test_make_serve():
    """The command: it says where it is, serves, and ends with code 0 when it is told to in the middle of a stream."""
    command = [sys.executable, "-m", "toolkit.commands.serve", "--model", "tiny", "--port", "0"]
    environment = {name: value for name, value in os.environ.items() if name != "SERVE_API_KEY"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        killer = threading.Timer(4 * LONG, process.kill)
        killer.start()
        assert process.stderr is not None
        line = ""
        while " at http://" not in line:
            line = process.stderr.readline()
            assert line, "it has ended before it served"
        port = re.search(r"127\.0\.0\.1:(\d+)/v1", line)
        assert port and line.startswith("model tiny at ")
        client = Live.__new__(Live)
        client.port = int(port[1])
        assert client.get("/health").status == 200
        streaming = client.open(completion(max_tokens=30, stream=True))
        assert streaming.recv(1)
        process.send_signal(signal.SIGTERM)
        assert read_all(streaming).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        rest = process.stderr.read()
        assert process.wait(LONG) == 0 and rest == "", f"it ended with {process.returncode} and said {rest!r}"
        killer.cancel()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "x"], "PORT is 'x'; give a number from 0 to 65535"),
        (["--port", "70000"], "PORT is '70000'"),
        (["--host", "0.0.0.0", "--port", "0"], "SERVE_API_KEY"),
        (["--model", "no/such/model/here", "--port", "0"], "model 'no/such/model/here'"),
    ],
)
def test_make_serve_with_what_cannot_be(arguments, words, monkeypatch):
    """One line that says what to do, before anything is loaded."""
    from toolkit.commands.serve import main

    monkeypatch.delenv("SERVE_API_KEY", raising=False)
    monkeypatch.setattr(sys, "argv", ["serve", *arguments])
    monkeypatch.setattr(course, "use", lambda *_, **__: None)  # the tests have chosen already
    with pytest.raises(UserError) as caught:
        main()
    assert words in str(caught.value) and "\n" not in str(caught.value)
