"""A model behind HTTP, on this machine, that keeps to docs/http.md or breaks it as a test asks."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

WEIGHT = np.random.default_rng(0).normal(size=(36, 3)).astype(np.float32)


def logits(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1) @ WEIGHT


def probabilities(x: np.ndarray) -> np.ndarray:
    raised = np.exp(logits(x) - logits(x).max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def classes(x: np.ndarray) -> np.ndarray:
    return logits(x).argmax(1)


GIVES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "logits": logits,
    "probabilities": probabilities,
    "classes": classes,
}


@dataclass
class Stub:
    """What the server says and does; tests change it while it runs."""

    answers: str = "logits"
    batch: int = 4
    about: dict[str, Any] | None = None  # instead of what a GET says
    said: Any = None  # instead of what a POST says: an object, or bytes
    failing: list[int] = field(default_factory=list)  # statuses of the next requests
    headers: dict[str, str] = field(default_factory=dict)  # sent along
    seen: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    port: int = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/model"

    def reply(self, method: str, body: bytes) -> Any:
        if method == "GET":
            return self.about or {"answers": self.answers, "of": 3, "batch": self.batch}
        if self.said is not None:
            return self.said
        asked = json.loads(body)
        x = np.frombuffer(base64.b64decode(asked["data"]), "<f4").reshape(asked["shape"])
        return {self.answers: GIVES[self.answers](x).tolist()}


@contextmanager
def serving(stub: Stub) -> Iterator[Stub]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            stub.seen.append((self.command, dict(self.headers), body))
            status = stub.failing.pop(0) if stub.failing else 200
            reply = stub.reply(self.command, body)
            content = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
            self.send_response(status)
            for name, value in {**stub.headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
