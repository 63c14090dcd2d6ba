"""Does a fast audit say what the plain one says, and does it say that it was fast?"""

import json

import numpy as np
import pytest
import torch
from torch import nn

import reports.fast
from attacks import Form
from attacks.errors import InputError
from reports.audit import audit
from reports.fast import forms_for
from reports.sources.data import from_arrays
from reports.unfinished import ASKED, place_of
from reports.zoo import load as digits

HALF = Form("bf16", fold_batchnorm=True)


def data(rows: int = 40):
    from reports.zoo import held_out

    x, y = (part[:rows] for part in held_out())
    return from_arrays(np.asarray(x), np.asarray(y))


def run(out, fast, **options):
    models = {"net": digits()["digits_standard"]}
    attacks = ["pgd:steps=10", "verdict:effort=quick"]
    return audit(models, data(), ["linf:0.1"], attacks, out, seed=1, fast=fast, **options)


def test_a_fast_audit_breaks_what_the_plain_one_breaks(tmp_path):
    plain, fast = run(tmp_path / "plain", None), run(tmp_path / "fast", {"net": HALF})
    told = [done.about["models"]["net"]["threats"]["linf:0.1"]["robust"] for done in (plain, fast)]
    assert abs(told[0] - told[1]) <= 1
    assert "fast" not in plain.about["configuration"]
    assert fast.about["configuration"]["fast"] == {"net": "bf16,fold_batchnorm"}
    assert "net was searched" in (tmp_path / "fast" / "report.html").read_text()
    assert "was searched" not in (tmp_path / "plain" / "report.html").read_text()
    assert fast.about["models"]["net"]["clean_accuracy"] == plain.about["models"]["net"]["clean_accuracy"]
    for at in (tmp_path / "fast" / "adversarial").rglob("*.npz"):
        found = np.load(at)
        x, y = torch.from_numpy(found["x"]), torch.from_numpy(np.asarray(data().between(0, 40).labels))[found["id"]]
        with torch.no_grad():
            assert (digits()["digits_standard"](x).argmax(1) != y).all()


def test_curves_are_made_in_full_precision(tmp_path):
    plain, fast = run(tmp_path / "plain", None), run(tmp_path / "fast", {"net": Form("bf16")})
    assert np.array_equal(plain.curves["size"], fast.curves["size"])


class Deceiving(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = digits()["digits_standard"]

    def forward(self, x):
        return self.net(x) if x.dtype == torch.float32 else -self.net(x)


def test_a_form_that_answers_otherwise_is_told_among_the_doubts(tmp_path):
    done = audit({"net": Deceiving()}, data(20), ["linf:0.1"], ["pgd:steps=5"], tmp_path / "a", fast={"net": HALF})
    texts = [doubt["text"] for doubt in done.about["doubts"]]
    assert sum("answers otherwise" in text for text in texts) == 1
    assert (tmp_path / "a" / "report.html").read_text().count("answers otherwise") >= 1


def test_what_was_measured_before_a_stop_is_not_measured_again(tmp_path, monkeypatch):
    monkeypatch.setattr(reports.fast, "fastest_form", lambda *_: pytest.fail("measured"))
    folder = place_of(tmp_path / "out") / "0123"
    folder.mkdir(parents=True)
    (folder / ASKED).write_text(json.dumps({"configuration": {"fast": {"net": "channels_last"}}}))
    found = forms_for(
        "auto", {"net": digits()["digits_standard"], "other": Deceiving()}, data(), "cpu", tmp_path / "out"
    )
    assert found == {"net": Form(channels_last=True)}


def test_the_fastest_is_measured_on_some_examples(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(reports.fast, "fastest_form", lambda _, x: seen.append(x.shape) or HALF)
    assert forms_for("auto", {"net": Deceiving()}, data(), "cpu", tmp_path / "out") == {"net": HALF}
    assert seen == [(40, 1, 8, 8)]


@pytest.mark.parametrize("text", ["int4", "bf16,fp16", "", "bf16;channels_last"])
def test_a_text_that_names_no_form_is_refused(tmp_path, text, command):
    with pytest.raises(InputError):
        forms_for(text, {}, data(), "cpu", tmp_path)
    ended = command("audit", "--fast", text, "--out", str(tmp_path / "a"))
    assert ended.status == 2
    assert "form" in ended.err or "precisions" in ended.err
    assert not (tmp_path / "a").exists()


def test_a_form_and_its_text_are_the_same():
    for form in (HALF, Form("tf32", True, True, True), Form(channels_last=True), Form()):
        assert Form.parse(form.text) == form
