"""How is a model behind HTTP asked? The contract is in docs/http.md.

A GET of the address says what it answers; each POST shows it a batch. No redirect is followed, so that neither the
inputs nor the token go anywhere else.
"""

import base64
import ipaddress
import json
import math
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, fields
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from attacks.errors import InputError
from attacks.models import FromCallable, LogProbabilities

TOKEN = "ADVGAN_TOKEN"  # the environment variable of the bearer token
ANSWERS = ("logits", "probabilities", "classes")
MOST_BYTES = 2**28  # of one answer
AGAIN = (408, 425, 429, 500, 502, 503, 504)  # statuses after which the same is asked once more
MOST_CLASSES = 100_000


@dataclass(frozen=True)
class Manners:
    """What may stand after a # in the address, which is not sent: #rate=5,timeout=10."""

    rate: float = math.inf  # requests a second
    timeout: float = 30.0  # seconds without a byte, and for a whole answer once it has begun
    tries: int = 5
    wait: float = 0.5  # seconds before the second try; doubled before each further one


def load(spec: str, weights: Path | None) -> tuple[str, nn.Module]:
    """`https://HOST/PATH`, or `http://`: scores, probabilities or decisions, as it says itself; never gradients."""
    address, _, options = spec.partition("#")
    url = urllib.parse.urlsplit(address)
    if url.username or url.password:
        raise InputError(f"The address names a user or password, which audits would write down. Use {TOKEN} instead.")
    try:
        host = url.hostname
        _ = url.port
    except ValueError as error:
        raise InputError(f"{address} is no address ({error}).") from error
    if not host:
        raise InputError(f"{address} names no host. Write https://HOST/PATH.")
    remote = _Remote(address, _manners(address, options), _token(url.scheme, host))
    about = remote.about()
    if about["answers"] == "classes":
        return host, FromCallable(remote, decisions=True, classes=about["of"])
    model = FromCallable(remote)
    return host, LogProbabilities(model) if about["answers"] == "probabilities" else model


def _manners(address: str, text: str) -> Manners:
    known = {field.name: field.type for field in fields(Manners)}
    options: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        try:
            options[name] = int(value) if known[name] is int else float(value)
        except (KeyError, ValueError):
            raise InputError(f"{address}#{part}: write one of {', '.join(known)} with a number, #rate=5.") from None
        if not options[name] > 0:
            raise InputError(f"{address}#{part}: it must be more than 0.")
    return Manners(**options)


def _token(scheme: str, host: str) -> str | None:
    token = os.environ.get(TOKEN)
    if token and scheme != "https" and not _is_here(host):
        raise InputError(f"{TOKEN} is set, and http://{host} would send it in the clear. Use https.")
    return token


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Refusing(urllib.request.HTTPRedirectHandler):
    """Follows no redirect."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class _Remote:
    """function(array [b, ...]) -> scores [b, K] or class numbers [b]."""

    def __init__(self, address: str, manners: Manners, token: str | None):
        self.address, self.manners, self.token = address, manners, token
        self.note = f"behind {address}"
        self.opener = urllib.request.build_opener(_Refusing)
        self.next = 0.0  # the moment before which nothing is asked
        self.answers, self.of, self.batch = "logits", 0, 1

    def about(self) -> dict[str, Any]:
        """What it says of itself: answers, one of ANSWERS; of, how many classes; batch, the largest it takes."""
        said = {"batch": 64, **self._asked(None)}
        answers, of, batch = (said.get(name) for name in ("answers", "of", "batch"))
        if answers not in ANSWERS:
            raise self._wrong(f"it says that it answers {_short(answers)}; one of {', '.join(ANSWERS)} is needed")
        if not _is_count(of, 2, MOST_CLASSES):
            raise self._wrong(f"it says that there are {_short(of)} classes (of); a whole number from 2 is needed")
        if not _is_count(batch, 1, 2**20):
            raise self._wrong(f"it says that it takes {_short(batch)} inputs (batch); a whole number is needed")
        self.answers, self.of, self.batch = str(answers), int(of or 0), int(batch or 0)
        return {"answers": self.answers, "of": self.of}

    def __call__(self, x: np.ndarray) -> np.ndarray:
        parts = [x[start : start + self.batch] for start in range(0, len(x), self.batch)]
        return np.concatenate([self._answer(part) for part in parts])

    def _answer(self, x: np.ndarray) -> np.ndarray:
        data = base64.b64encode(np.ascontiguousarray(x, dtype="<f4").tobytes()).decode("ascii")
        said = self._asked({"dtype": "float32", "shape": list(x.shape), "data": data}).get(self.answers)
        try:
            given = np.asarray(said, dtype=np.float64)
        except (TypeError, ValueError):
            raise self._wrong(f"{self.answers} are no numbers") from None
        wanted = (len(x),) if self.answers == "classes" else (len(x), self.of)
        if given.shape != wanted:
            raise self._wrong(f"{self.answers} are {list(given.shape)}, and {list(wanted)} are needed")
        if self.answers != "classes":
            return given
        if not ((given == given.round()) & (given >= 0) & (given < self.of)).all():
            raise self._wrong(f"classes must be whole numbers from 0 to {self.of - 1}")
        return given.astype(np.int64)

    def _asked(self, body: Mapping[str, Any] | None) -> dict[str, Any]:
        """The JSON object that it answers with; the same is asked again where that may help."""
        why, wait = "", 0.0
        for attempt in range(self.manners.tries):
            if attempt:
                time.sleep(min(60.0, max(wait, self.manners.wait * 2 ** (attempt - 1))))
            self._pace()
            try:
                with self.opener.open(self._request(body), timeout=self.manners.timeout) as answer:
                    return self._read(self._body(answer))
            except urllib.error.HTTPError as error:
                why, wait = f"status {error.code} {error.reason}", _seconds(error.headers.get("Retry-After"))
                error.close()
                if error.code not in AGAIN:
                    break
            except (OSError, HTTPException) as error:
                why, wait = str(getattr(error, "reason", error)) or type(error).__name__, 0.0
        raise InputError(f"{self.address} gives no answer ({why}). See that the model is served there: docs/http.md.")

    def _body(self, answer: Any) -> bytes:
        """What it sends, as far as it comes within the time for all of it; one byte beyond MOST_BYTES at most."""
        parts, length, until = [], 0, time.monotonic() + self.manners.timeout
        while length <= MOST_BYTES and (part := answer.read1(1 << 16)):
            parts.append(part)
            length += len(part)
            if time.monotonic() > until:
                raise TimeoutError("it sends too slowly")
        return b"".join(parts)

    def _request(self, body: Mapping[str, Any] | None) -> urllib.request.Request:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        content = None if body is None else json.dumps(body).encode("ascii")
        return urllib.request.Request(self.address, content, headers)

    def _pace(self) -> None:
        time.sleep(max(0.0, self.next - time.monotonic()))
        self.next = time.monotonic() + 1 / self.manners.rate

    def _read(self, content: bytes) -> dict[str, Any]:
        if len(content) > MOST_BYTES:
            raise self._wrong(f"the answer is longer than {MOST_BYTES:,} bytes")
        try:
            said = json.loads(content)
        except (ValueError, RecursionError):
            raise self._wrong("the answer is no JSON") from None
        if not isinstance(said, dict):
            raise self._wrong("the answer is no JSON object")
        return said

    def _wrong(self, what: str) -> InputError:
        return InputError(f"{self.address} does not keep to the contract of docs/http.md: {what}.")


def _is_count(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _seconds(text: str | None) -> float:
    return float(text) if text and text.strip().isdigit() else 0.0


def _short(value: object) -> str:
    return repr(value)[:40]
