"""Loading a Hub name for real, from a small server on this machine that answers as the Hub does."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from toolkit.models import load_model

REPOSITORY = Path(__file__).resolve().parents[2]
COMMIT = "a" * 40

# Runs in a process of its own, since the library reads the Hub's address when it is imported.
LOADS = """
import sys, urllib.request
from toolkit.errors import UserError
from toolkit.models import load_model
print(load_model("owner/tiny").description)
for name in ("owner/nothing", "owner/large"):
    try:
        load_model(name)
    except UserError as error:
        print(error)
urllib.request.urlopen(sys.argv[1] + "/close").read()
print(load_model("owner/tiny").description)
"""


class LocalHub(http.server.ThreadingHTTPServer):
    """Serves `owner/tiny` from a folder, and of `owner/large`, a GPT-2, the configuration alone."""

    def __init__(self, folder: Path):
        super().__init__(("127.0.0.1", 0), HubRequest)
        self.folder, self.closed, self.downloads = folder, False, []


class HubRequest(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer()

    def do_HEAD(self):
        self.answer()

    def answer(self):
        if self.server.closed:
            return  # the connection ends without an answer, as where there is no network
        path = self.path.partition("?")[0]
        if path in ("/", "/close"):
            self.server.closed = path == "/close"
            return self.reply(b"")
        parts = path.strip("/").split("/", 4)  # owner, name, "resolve", revision, file
        if parts[:2] == ["api", "models"]:
            return self.describe(parts[2:])
        if parts[1:3] == ["tiny", "resolve"] and (file := self.server.folder / parts[4]).exists():
            return self.reply(file.read_bytes(), parts[4])
        if parts[1:3] == ["large", "resolve"] and parts[4] == "config.json":
            return self.reply(b'{"model_type": "gpt2"}', "large/config.json")
        return self.reply(b"", status=404, headers={"X-Error-Code": "RepoNotFound"})

    def describe(self, parts):
        files = [path for path in self.server.folder.rglob("*") if path.is_file()]
        names = [path.relative_to(self.server.folder).as_posix() for path in files]
        if parts[2].startswith("tree"):
            tree = [
                {"type": "file", "path": name, "size": path.stat().st_size, "oid": "b" * 40}
                for name, path in zip(names, files, strict=True)
            ]
            return self.reply(json.dumps(tree).encode())
        siblings = [{"rfilename": name} for name in names]
        return self.reply(json.dumps({"id": "owner/tiny", "sha": COMMIT, "siblings": siblings}).encode())

    def reply(self, body, file=None, status=200, headers=None):
        self.send_response(status)
        if file:
            headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "X-Repo-Commit": COMMIT}
            if self.command == "GET":
                self.server.downloads.append(file)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *arguments):
        """Silent."""


@pytest.fixture
def hub(tmp_path):
    folder = tmp_path / "served"
    tiny = load_model("tiny")
    tiny.model.save_pretrained(folder)
    tiny.tokenizer.save_pretrained(folder)
    (folder / "original").mkdir()
    for again in ("pytorch_model.bin", "consolidated.safetensors", "original/model.safetensors"):
        (folder / again).write_text("the same weights once more")
    server = LocalHub(folder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_model_of_the_hub_is_fetched_once_and_used_without_a_network_afterwards(hub, tmp_path):
    address = f"http://127.0.0.1:{hub.server_port}"
    environment = os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    environment["NO_PROXY"] = "127.0.0.1"
    done = subprocess.run(
        [sys.executable, "-c", LOADS, address], capture_output=True, text=True, env=environment, cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stderr
    online, nothing, large, offline = done.stdout.splitlines()
    assert online == offline and online.startswith("owner/tiny (llama, 0.4 million parameters, float32)")
    assert nothing == "model owner/nothing: neither a folder here nor a public model on the Hub"
    assert "architecture 'gpt2' is not supported" in large
    assert {"config.json", "tokenizer.json", "model.safetensors", "large/config.json"} <= set(hub.downloads)
    superfluous = [file for file in hub.downloads if "original" in file or "consolidated" in file or "pytorch" in file]
    assert not superfluous, f"the same weights were downloaded in other formats too: {superfluous}"
