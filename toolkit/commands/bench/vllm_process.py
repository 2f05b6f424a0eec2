"""The interpreter that has vLLM, and a process of it as seen from here: commands and answers, each with a time limit.

What vLLM prints goes to a log file. Whatever goes wrong is a `VllmError` of one line, with the end of that log: the
process cannot be started, it dies, it does not answer in time, or it answers that a command failed.
"""

import json
import os
import queue
import shutil
import signal
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.commands.bench.vllm_child import MARK
from toolkit.errors import UserError
from toolkit.recordings import ROOT

FOLDER = ROOT / "figures" / "local" / "vllm"
SCRIPT = Path(__file__).with_name("vllm_child.py")
HELLO_SECONDS = 60.0  # until the interpreter runs and knows whether it has vLLM
CLOSE_SECONDS = 15.0
LAST_SECONDS = 5.0  # from the end of its output to its own end
LOG_LINES, LOG_LETTERS = 3, 160  # of the log's end, in an error


class VllmError(Exception):
    """vLLM cannot do what was asked. The message is one line."""


class VllmProcess:
    """Starts the process; raises VllmError where that is not possible.

    Args:
        python: the interpreter that has vLLM.
        log: where its output is written. Its folder is made.

    """

    def __init__(self, python: str, log: Path) -> None:
        self.log = log
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_bytes(b"")
        except OSError as error:
            raise VllmError(f"{log} cannot be written: {error.strerror}") from None
        try:
            with log.open("ab") as sink:
                self.process = subprocess.Popen(
                    [python, str(SCRIPT)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=sink,
                    text=True,
                    encoding="utf-8",
                    errors="replace",
                    start_new_session=True,  # a group of its own, which can be ended with all that it has started
                )
        except OSError as error:
            raise VllmError(f"{python} cannot be started: {error.strerror}") from None
        assert self.process.stdin and self.process.stdout
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        self.lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()
        self.ended = False
        self.answer("its first word", HELLO_SECONDS)

    def read(self) -> None:
        """Hand on what comes, and at the end None. A thread of its own, since a pipe cannot be read with a limit."""
        for line in self.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def ask(self, do: str, seconds: float, **arguments: object) -> dict[str, Any]:
        """Give a command and wait for its answer, at most `seconds`."""
        text = json.dumps({"do": do, **arguments}) + "\n"
        threading.Thread(target=self.write, args=[text], daemon=True).start()  # who hangs may not even read
        return self.answer(f"the answer to {do!r}", seconds)

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # it is dead, or was ended: the thread that waits for the answer is told so
            self.stdin.write(text)
            self.stdin.flush()

    def answer(self, what: str, seconds: float) -> dict[str, Any]:
        """The next answer. After an error the process is of no use any more, so it is ended."""
        deadline = time.monotonic() + seconds
        line: str | None = ""
        while line is not None and not line.startswith(MARK):  # else it was printed before the child took stdout
            try:
                line = self.lines.get(timeout=max(deadline - time.monotonic(), 0))
            except queue.Empty:
                self.end_group()
                raise VllmError(f"{what} did not come within {seconds:g} s{self.end_of_log()}") from None
        if line is None:
            raise VllmError(f"its process ended with exit status {self.end_group(LAST_SECONDS)}{self.end_of_log()}")
        answer: dict[str, Any] = json.loads(line.removeprefix(MARK))
        if "error" in answer:
            self.end_group()
            raise VllmError(f"{answer['error']} (its log: {self.log})")
        return answer

    def end_of_log(self) -> str:
        """The last lines of what it printed, as the end of a sentence of one line."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        lines = [line.strip()[:LOG_LETTERS] for line in text.splitlines() if line.strip()]
        return f"; its log, {self.log}, ends: {' | '.join(lines[-LOG_LINES:])}" if lines else ""

    def close(self) -> None:
        """End the process and what it has started, and wait for that: then the GPU's memory is free."""
        if not self.ended:
            with suppress(OSError):  # of what was not read
                self.stdin.close()
            self.end_group(CLOSE_SECONDS)

    def end_group(self, patience: float = 0.0) -> int:
        """Wait for its own end for so many seconds, then end it. Called once, since its number may be given away.

        Returns:
            the exit status; -9 if it did not end by itself.
        """
        self.ended = True
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(patience)
        with suppress(ProcessLookupError):  # it has ended
            os.killpg(self.process.pid, signal.SIGKILL)
        status = self.process.wait()
        with suppress(OSError):
            self.stdin.close()
        return status


@dataclass(frozen=True)
class VllmPython:
    """The interpreter that has vLLM.

    Attributes:
        path: of the interpreter.
        required: vLLM was asked for by name: if it cannot be started, that is an error and no note.
        folder: for logs and models' configurations.
    """

    path: str
    required: bool
    folder: Path

    @classmethod
    def find(cls, option: str, required: bool) -> "VllmPython | None":
        """From the command line's option. None, and a note, if vLLM is not to be had and it was not asked for by name.

        Raises:
            UserError: the option names no program, or one without vLLM where vLLM is required.
        """
        path = shutil.which(option)
        if path is None:
            raise UserError(f"--vllm: {option!r} is no program; give the Python that has vLLM")
        try:
            VllmProcess(path, FOLDER / "first_word.log").close()
        except VllmError as error:
            if required:
                raise UserError(f"--vllm: {error}") from None
            print(f"note: vLLM is left out: {error}", flush=True)
            return None
        return cls(path, required, FOLDER)
