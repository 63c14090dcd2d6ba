"""Does `advgan probe` measure what it says, save what can be read back, and tell it on a page that anyone can read?"""

import errno
import html as escaping
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from attacks.errors import InputError
from reports import cli, zoo
from reports.probing import job, page, saved
from reports.probing.asked import Asked
from reports.probing.saved import Probe
from reports.sources.data import from_arrays
from tests.reports.looks import BEYOND, SIZES

EVIL = "<script>alert('x')</script>&\"{{ 7*7 }}"


class Planes(nn.Module):
    """A linear classifier whose boundaries are known: class 0 where the first value leads, and so on."""

    def __init__(self, classes: int = 3):
        super().__init__()
        self.classes = classes

    def forward(self, x):
        return 4 * x.flatten(1)[:, : self.classes]


def planes_data(rows: int = 24, shape: tuple[int, ...] = (5, 5), classes: int = 3, names: list[str] | None = None):
    x = np.random.default_rng(0).random((rows, *shape), dtype=np.float32)
    return from_arrays(x, x.reshape(rows, -1)[:, :classes].argmax(1).astype(np.int64), name="planes", classes=names)


def run(folder, models=None, data=None, asked=None, **options) -> Probe:
    options = {"examples": 24, **options}
    asked = asked or Asked("l2:0.2", draws=3, side=24, walk=120)
    return job.probe(models or {"net": Planes()}, data or planes_data(), asked, folder, **options)


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Probe:
    folder = tmp_path_factory.mktemp("probes") / "probe"
    x, y = (part[:40].numpy() for part in zoo.held_out())
    asked = Asked("l2:1.0", draws=3, side=60, walk=120)
    return run(folder, zoo.load(), from_arrays(x, y, name="digits"), asked, examples=40)


@pytest.fixture(scope="module")
def linear(tmp_path_factory) -> Probe:
    return run(tmp_path_factory.mktemp("probes") / "probe")


def html_of(probe: Probe) -> str:
    return (probe.folder / saved.PAGE).read_text(encoding="utf-8")


def test_a_linear_models_distances_are_those_of_its_planes(linear):
    x = next(planes_data().batches(24, 24)).x.flatten(1).double()
    top = x[:, :3].sort(dim=1, descending=True).values
    true = (top[:, 0] - top[:, 1]) / 2**0.5
    own = linear.rays.loc[linear.rays["kind"] == "attack"]
    found = torch.tensor(own["distance"].to_numpy())
    ids = torch.tensor(own["id"].to_numpy())
    assert (found >= true[ids] * 0.999).all()
    assert (found <= true[ids] * 1.03).all()
    assert np.allclose(linear.geometry["linear"], true.numpy(), rtol=1e-5)
    assert (linear.geometry["hessian"] == 0).all()
    assert (linear.geometry["missed"].abs() < 1e-3).all()


def test_every_kind_of_direction_has_its_rays(digits):
    right = {name: model["correct"] for name, model in digits.about["models"].items()}
    counts = digits.rays.groupby(["model", "kind"]).size()
    for name, n in right.items():
        assert counts[name, "attack"] == counts[name, "gradient"] == n
        assert counts[name, "gaussian"] == counts[name, "signs"] == counts[name, "examples"] == 3 * n
        assert counts[name, "means"] == 9 * n


def test_the_passes_told_are_the_rows(digits):
    for name, model in digits.about["models"].items():
        rays = digits.rays.loc[digits.rays["model"] == name, "queries"].sum() + model["correct"]
        assert model["passes"]["directions"]["forwards"] == rays
        assert model["passes"]["geometry"] == {"forwards": 4 * model["correct"], "backwards": 4 * model["correct"]}
        planes = [told for told in digits.about["planes"] if told["model"] == name]
        assert model["passes"]["planes"]["forwards"] == sum(told["side"] ** 2 for told in planes) == 3 * 60**2


def test_the_same_probe_gives_the_same_rows_and_page(linear, tmp_path):
    again = run(tmp_path / "again")
    for name in saved.TABLES:
        assert getattr(again, name).equals(getattr(linear, name)), name
    assert html_of(again) == html_of(linear)
    assert page.page(Probe.load(again.folder)) == html_of(again)


def test_the_models_are_left_as_they_were(tmp_path):
    model = zoo.load()["digits_standard"].train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x, y = (part[:20].numpy() for part in zoo.held_out())
    run(tmp_path / "out", {"net": model}, from_arrays(x, y), Asked("linf:0.1", draws=1, side=4, walk=0))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("threat", ["linf:0.1", "l1:2"])
def test_other_norms_are_probed_and_told(threat, tmp_path):
    probe = run(tmp_path / "out", asked=Asked(threat, draws=2, side=8, walk=60))
    assert len(probe.walks) == 0 if threat.startswith("l1") else len(probe.walks) > 0
    assert "nobody walked" in html_of(probe) or threat.startswith("linf")


def test_inputs_that_are_no_pictures_are_probed_too(tmp_path):
    probe = run(tmp_path / "out", data=planes_data(shape=(7,)))
    assert "strip-of-walk" not in html_of(probe).partition("</style>")[2]


# The page


def test_a_kind_of_ray_of_which_none_crosses_is_told_as_such(tmp_path):
    class Steps(Planes):
        def forward(self, x):
            return super().forward(x).round()

    asked = job.Asked("l2:0.2", attack="hopskipjump:queries=150", draws=1, side=8, walk=0)
    probe = run(tmp_path / "probe", {"flat": Steps()}, asked=asked)
    rays = probe.rays
    assert not np.isfinite(rays.distance[rays.kind == "gradient"]).any()  # the slope is zero everywhere
    assert np.isfinite(rays.distance[rays.kind == "attack"]).any()
    assert "never" in html_of(probe)
    assert "The margin has no slope at any example" in html_of(probe)
    assert (probe.geometry["slope"].to_numpy() == 0).all()


def test_the_page_needs_nothing_but_itself(digits):
    text = html_of(digits)
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", text)
    assert "<script" not in text
    assert len(text) < 1_500_000
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(ids)


def test_the_page_says_what_was_measured(digits):
    text = escaping.unescape(html_of(digits))
    for name, model in digits.about["models"].items():
        assert f"the {model['correct']} of 40 examples that it gets right" in text
        own = digits.rays.loc[(digits.rays["model"] == name) & (digits.rays["kind"] == "gaussian"), "distance"]
        assert f"{(own <= 1).sum()} of {len(own)}" in text
        assert f"{np.isfinite(own).sum()} of {len(own)}" in text


def test_names_with_html_in_them_stay_text(tmp_path):
    probe = run(tmp_path / "out", {EVIL: Planes()}, planes_data(names=[EVIL + str(k) for k in range(3)]))
    assert "<script" not in html_of(probe)
    assert "alert" in html_of(probe)


@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_whole(opened, digits, width):
    shown = opened(digits, width)
    assert shown.told == []
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    assert shown.evaluate(BEYOND, width) == []
    assert min(shown.evaluate(SIZES)) >= 9
    assert shown.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert shown.locator("table").count() >= 7
    assert shown.evaluate("[...document.querySelectorAll('[role=img]')].every(e => e.getAttribute('aria-label'))")
    assert shown.evaluate("[...document.images].every(i => i.alt)")


# The command


def test_the_command_writes_a_probe_and_says_where(tmp_path, capsys):
    out = tmp_path / "probe"
    words = [
        "probe",
        "-m",
        "digits:robust",
        "-n",
        "12",
        "--directions",
        "1",
        "--side",
        "8",
        "--walk",
        "0",
        "-o",
        str(out),
    ]
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert str(out / "report.html") in told.replace("\n", "")
    assert "digits_robust" in told
    with pytest.raises(SystemExit):
        cli.main(["show", str(out)])
    assert "random signs" in capsys.readouterr().out
    probe = Probe.load(out)
    assert {path.name for path in out.iterdir()} == set(saved.FILES)
    assert probe.about["data"]["n"] == 12
    assert "--model digits:robust" in escaping.unescape(html_of(probe))


BAD = {
    "no data": ["-m", "net.py:make"],
    "no threat": ["-d", "test.npz"],
    "l0": ["-t", "l0:3"],
    "eps inf": ["-t", "l2:inf"],
    "eps 0": ["-t", "l2:0"],
    "no norm": ["-t", "l7:3"],
    "no directions": ["--directions", "0"],
    "one point": ["--side", "1"],
    "a walk backwards": ["--walk", "-3"],
    "one example": ["-n", "1"],
    "an unknown attack": ["-a", "nothing"],
    "an unknown model": ["-m", "digits:soft"],
    "an unknown device": ["--device", "abacus"],
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_probed_is_said_in_one_line_and_leaves_nothing(name, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["probe", *BAD[name], "--out", str(tmp_path / "out")])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("advgan: ")
    assert "Traceback" not in told
    assert list(tmp_path.iterdir()) == []


def bad_probes():
    wrong = planes_data()
    return {
        "a model that is always wrong": lambda out: run(out, {"net": Shifted()}),
        "a model for other inputs": lambda out: run(out, {"net": nn.Linear(3, 3)}),
        "probabilities": lambda out: run(out, {"net": nn.Sequential(Planes(), nn.Softmax(1))}),
        "no gradient": lambda out: run(out, {"net": Rounded()}),
        "an attack that finds nothing": lambda out: run(out, asked=Asked("l2:0.2", "pointwise", 1, 4, 0)),
        "more labels than classes": lambda out: run(out, {"net": Planes(2)}, wrong),
    }


class Shifted(Planes):
    def forward(self, x):
        return super().forward(x).roll(1, dims=1)


class Rounded(Planes):
    def forward(self, x):
        return super().forward(x).detach()


@pytest.mark.parametrize("name", bad_probes())
def test_a_model_that_cannot_be_probed_is_said_and_leaves_nothing(name, tmp_path):
    with pytest.raises(InputError):
        bad_probes()[name](tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_replaced_only_where_it_is_a_probe_and_that_is_asked_for(tmp_path):
    out = tmp_path / "out"
    run(out)
    with pytest.raises(InputError, match="--overwrite"):
        run(out)
    run(out, overwrite=True)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes\.txt"):
        run(out, overwrite=True)
    assert (out / "notes.txt").read_text() == "mine"


def test_a_full_disk_is_said_and_leaves_nothing(linear, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(InputError, match="The disk is full"):
        saved.write(replace(linear, folder=tmp_path / "probe"), "page")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_whole_probe_is_not_read(linear, tmp_path):
    out = run(tmp_path / "out").folder
    with pytest.raises(InputError, match=r"probe\.json"):
        Probe.load(tmp_path)
    about = json.loads((out / saved.ABOUT).read_text())
    (out / saved.ABOUT).write_text(json.dumps({**about, "format": 99}))
    with pytest.raises(InputError, match="format 99"):
        Probe.load(out)
    (out / saved.ABOUT).write_text(json.dumps(about))
    (out / "rays.parquet").write_bytes((out / "rays.parquet").read_bytes()[:100])
    with pytest.raises(InputError, match=r"rays\.parquet"):
        Probe.load(out)
    (out / "rays.parquet").unlink()
    with pytest.raises(InputError, match=r"rays\.parquet"):
        Probe.load(out)
