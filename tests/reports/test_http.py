"""A model behind HTTP: what is asked of it, what it may answer, and what is done where it does not."""

import json
import socket
import threading
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import attacks
from attacks import Access
from attacks.catalog import attack_named
from attacks.errors import InputError
from reports.sources import models
from reports.sources.classifiers import http
from reports.sources.told import access_of, told, victim_of
from tests.reports import stub as stubs
from tests.reports.commands import Advgan
from tests.reports.stub import Stub, serving

X = torch.rand(10, 1, 6, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv(http.TOKEN, raising=False)


def loaded(stub: Stub, options: str = "") -> torch.nn.Module:
    (model,) = models.load(f"{stub.address}{options}").values()
    return model


@pytest.mark.parametrize(
    ("answers", "access"),
    [("logits", Access.SCORES), ("probabilities", Access.SCORES), ("classes", Access.DECISION)],
)
def test_a_remote_model_answers_as_the_same_model_here(answers: str, access: Access):
    with serving(Stub(answers)) as stub:
        model = loaded(stub)
        given = model(X)
        assert access_of(model) is access
        assert [len(json.loads(body)["shape"]) for method, _, body in stub.seen if method == "POST"] == [4] * 3
    assert given.argmax(1).tolist() == stubs.classes(X.numpy()).tolist()
    if answers == "logits":
        assert np.allclose(given.numpy(), stubs.logits(X.numpy()), atol=1e-6)
    if answers == "probabilities":
        assert np.allclose(given.exp().numpy(), stubs.probabilities(X.numpy()), atol=1e-6)


def test_an_attack_that_needs_more_is_refused_and_one_that_does_not_succeeds():
    with serving(Stub("classes", batch=64)) as stub:
        model = loaded(stub)
        labels = torch.from_numpy(stubs.classes(X.numpy()))
        victim = victim_of(model)
        for name in ("pgd", "square"):
            with pytest.raises(InputError, match="the victim reveals DECISION"):
                attacks.run(name, victim, X, labels, "linf:0.3")
        result = attacks.run(attack_named("rays", queries=60), victim, X, labels, "linf:0.5")
    assert result.fooled.any()
    assert (stubs.classes(result.x_adv.numpy()) != labels.numpy())[result.fooled.numpy()].all()


def test_what_fails_for_a_moment_is_asked_again_and_no_answer_is_lost():
    with serving(Stub()) as stub:
        model = loaded(stub, "#wait=0.01")
        stub.failing = [503, 429, 500]
        assert np.allclose(model(X[:3]).numpy(), stubs.logits(X[:3].numpy()), atol=1e-6)
        assert len(stub.seen) == 1 + 4


def test_a_wait_that_the_server_asks_for_is_kept():
    with serving(Stub(headers={"Retry-After": "1"})) as stub:
        model = loaded(stub, "#wait=0.01")
        stub.failing = [429]
        start = time.monotonic()
        model(X[:1])
        assert time.monotonic() - start >= 1.0


@pytest.mark.parametrize(("status", "asked"), [(500, 3), (404, 1), (401, 1), (302, 1)])
def test_what_goes_on_failing_ends_in_an_error_that_says_so(status: int, asked: int):
    with serving(Stub(headers={"Location": "http://127.0.0.1:1/elsewhere"})) as stub:
        stub.failing = [status] * 9
        with pytest.raises(InputError, match=f"gives no answer .*{status}"):
            loaded(stub, "#wait=0.01,tries=3")
        assert len(stub.seen) == asked


def test_nobody_there_and_a_server_that_hangs_are_errors():
    with serving(Stub()) as stub:
        address = stub.address
    with pytest.raises(InputError, match="gives no answer"):
        models.load(f"{address}#wait=0.01,tries=2,timeout=1")
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(InputError, match=r"gives no answer .*timed out"),
    ):
        models.load(f"http://127.0.0.1:{silent.getsockname()[1]}/#tries=1,timeout=0.2")


def test_no_more_is_asked_in_a_second_than_allowed():
    with serving(Stub(batch=1)) as stub:
        model = loaded(stub, "#rate=20")
        start = time.monotonic()
        model(X)
        assert time.monotonic() - start >= 9 / 20


def test_the_token_goes_along_and_is_never_sent_in_the_clear(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(http.TOKEN, "secret")
    with serving(Stub()) as stub:
        model = loaded(stub)
        model(X)
        assert {headers["Authorization"] for _, headers, _ in stub.seen} == {"Bearer secret"}
        assert "secret" not in " ".join(told(model))
    with pytest.raises(InputError, match="in the clear"):
        models.load("http://models.example/model")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://", "names nothing|names no host"),
        ("https:///path", "names no host"),
        ("http://me:word@127.0.0.1/model", "names a user or password"),
        ("http://127.0.0.1:port/model", "is no address"),
        ("http://127.0.0.1:1/model#rate=fast", "with a number"),
        ("http://127.0.0.1:1/model#speed=3", "write one of rate"),
        ("http://127.0.0.1:1/model#rate=0", "more than 0"),
    ],
)
def test_an_address_that_cannot_be_used_is_explained(address: str, said: str):
    with pytest.raises(InputError, match=said):
        models.load(address)


@pytest.mark.parametrize(
    "about",
    [
        {"answers": "gradients", "of": 3},
        {"answers": "logits", "of": 1},
        {"answers": "logits", "of": "3"},
        {"answers": "logits", "of": True},
        {"answers": "logits", "of": 10**12},
        {"answers": "logits", "of": 3, "batch": 0},
        {"answers": "logits", "of": 3, "batch": 2**40},
        {"of": 3},
        [1, 2],
        "logits",
    ],
)
def test_a_server_that_says_nonsense_of_itself_is_refused(about: dict):
    with serving(Stub(about=about)) as stub, pytest.raises(InputError, match=r"contract of docs/http\.md"):
        loaded(stub)


@pytest.mark.parametrize(
    "said",
    [
        {"logits": [[0.0, 1.0, 2.0]]},
        {"logits": [[0.0, 1.0]] * 4},
        {"logits": [[0.0, 1.0, "x"]] * 4},
        {"logits": [[0.0, 1.0, 2.0], [1.0]]},
        {"logits": None},
        {"classes": [0, 1, 2, 0]},
        {},
        [],
        b"",
        b"not json",
        b"[" * 200_000,
        b"\xff\xfe",
    ],
)
def test_an_answer_that_breaks_the_contract_is_refused(said: object):
    with serving(Stub()) as stub:
        model = loaded(stub)
        stub.said = said
        with pytest.raises(InputError, match=r"contract of docs/http\.md"):
            model(X[:4])


@pytest.mark.parametrize("said", [[0, 1, 3, 0], [0, 1, -1, 0], [0, 1, 0.5, 0], [0, 1, 2]])
def test_decisions_that_are_no_classes_are_refused(said: list):
    with serving(Stub("classes")) as stub:
        model = loaded(stub)
        stub.said = {"classes": said}
        with pytest.raises(InputError, match=r"contract of docs/http\.md"):
            model(X[:4])


def test_an_audit_of_decisions_runs_what_decisions_allow(command: Advgan):
    x = (X.numpy() * 255).round().astype(np.uint8)[:, 0]
    np.savez("x.npz", x=x, y=stubs.classes(x.astype(np.float32) / 255))
    with serving(Stub("classes", batch=64)) as stub:
        ended = command("audit", "-m", stub.address, "-d", "x.npz", "-t", "linf:0.3", "-n", "4", "-o", "out")
    assert ended.status == 0, ended.err
    (about,) = json.loads(Path("out", "audit.json").read_text())["models"].values()
    assert sorted(about["threats"]["linf:0.3"]["attacks"]) == ["gaussian_noise", "hopskipjump", "rays", "uniform_noise"]
    assert about["threats"]["linf:0.3"]["robust"] < about["correct"] == 4
    assert about["source"] == [f"it reveals its decisions, no scores (behind {stub.address})."]


PAGE = (Path(__file__).parents[2] / "docs" / "http.md").read_text(encoding="utf-8")


def test_the_page_names_every_option_status_and_the_token():
    options = [f"| `{field.name}` |" for field in fields(http.Manners)]
    assert [text for text in (*options, f"`{http.TOKEN}`", *map(str, http.AGAIN)) if text not in PAGE] == []


def test_the_server_on_the_page_keeps_to_the_contract():
    code = PAGE.partition("```py\n")[2].partition("```")[0]
    code, end, _ = code.partition('HTTPServer(("127.0.0.1", 8000)')
    assert end
    names: dict[str, Any] = {"my_model": lambda x: np.tile(stubs.logits(x)[:, :1], 10)}
    exec(
        code.replace(
            "class Model(BaseHTTPRequestHandler):", "class Model(BaseHTTPRequestHandler):\n    log_message = print"
        ),
        names,
    )
    server = names["HTTPServer"](("127.0.0.1", 0), names["Model"])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        (model,) = models.load(f"http://127.0.0.1:{server.server_address[1]}/").values()
        assert np.allclose(model(X).numpy(), np.tile(stubs.logits(X.numpy())[:, :1], 10), atol=1e-6)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_an_answer_of_nan_is_no_classifiers():
    with serving(Stub()) as stub:
        model = loaded(stub)
        stub.said = b'{"logits": [[NaN, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1, 2]]}'
        with pytest.raises(InputError, match="NaN or inf for 1 of 4"):
            attacks.run("uniform_noise", victim_of(model), X[:4], torch.zeros(4, dtype=torch.int64), "linf:0.1")
