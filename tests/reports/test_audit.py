"""An audit: what is run on what, what is written down, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import attacks
from attacks import CATALOG, Result
from attacks.certify import Certificate
from attacks.doubts import doubts
from attacks.errors import InputError
from attacks.models import FromCallable
from reports import work as auditing
from reports.audit import audit
from reports.options import attack_from_text, described, named_attacks
from reports.provenance import DataHash, state_hash
from reports.record import Audit
from reports.sources.data import Dataset, from_arrays

CLOCK = "timings.parquet"


def linear(classes: int = 3, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layer = nn.Linear(36, classes, bias=False)
    layer.weight.data -= layer.weight.data.mean(1, keepdim=True)  # so that grey images are of every class
    return nn.Sequential(nn.Flatten(), layer)


def data(model: nn.Module, n: int = 20, wrong: int = 2, seed: int = 0) -> Dataset:
    """Images [n, 1, 6, 6] labelled as the model sees them, but for the last `wrong` ones."""
    generator = torch.Generator().manual_seed(seed)
    x = (torch.randint(64, 192, (n, 1, 6, 6), generator=generator) / 255).float()
    with torch.no_grad():
        logits = model(x)
    labels = logits.argmax(1)
    labels[n - wrong :] = logits[n - wrong :].argmin(1)
    return from_arrays(x, labels, name="toy")


def run(out: Path, model: nn.Module | None = None, **options: Any) -> Audit:
    model = model or linear()
    chosen: dict[str, Any] = {"threats": ["linf:0.05"], "attacks": ["fgsm"], "curves": False, **options}
    dataset = chosen.pop("dataset", None) or data(linear())
    return audit({"toy": model}, dataset, chosen.pop("threats"), chosen.pop("attacks"), out, **chosen)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_on_a_linear_model_the_audit_finds_what_can_be_found(tmp_path: Path):
    model = linear(classes=2)
    dataset = data(model, n=40)
    x, y = (torch.cat(parts) for parts in list(zip(*dataset.batches(None, 64), strict=True))[1:])
    weight = (model[1].weight[1] - model[1].weight[0]).detach()  # type: ignore[index]
    logits = model(x).detach()
    correct = logits.argmax(1) == y
    distance = (logits[:, 1] - logits[:, 0]).abs() / weight.abs().sum()
    eps = float(distance[correct].sort().values[18:20].mean())
    threat = f"linf:{eps}"
    robust = int((correct & (distance > eps)).sum())
    assert robust == 19
    found = run(tmp_path / "out", model, dataset=dataset, threats=[threat], attacks=["fgsm", "pgd"])
    told = found.about["models"]["toy"]
    assert (told["n"], told["correct"]) == (40, 38)
    assert told["threats"][threat]["robust"] == robust
    assert told["threats"][threat]["attacks"]["fgsm"]["robust"] == robust


def test_what_is_saved_is_inside_the_ball_and_misclassified_in_a_plain_pass(tmp_path: Path):
    model, dataset = linear(), data(linear())
    threats = ["linf:0.1", "l2:0.3"]
    names = ["fgsm", "pgd:steps=5", "uniform_noise"]
    found = run(tmp_path / "out", model, dataset=dataset, threats=threats, attacks=names)
    clean = torch.cat([batch.x for batch in dataset.batches(None, 64)]).double().numpy()
    labels = torch.cat([batch.labels for batch in dataset.batches(None, 64)]).numpy()
    for threat, order in (("linf:0.1", np.inf), ("l2:0.3", 2)):
        for attack in ("fgsm", "pgd", "uniform_noise"):
            ids, x = found.adversarial("toy", threat, attack)
            sizes = np.linalg.norm((x.astype(np.float64) - clean[ids]).reshape(len(ids), -1), order, axis=1)
            assert (sizes <= float(threat.partition(":")[2])).all()
            assert x.min() >= 0
            assert x.max() <= 1
            with torch.no_grad():
                assert (model(torch.from_numpy(x)).argmax(1).numpy() != labels[ids]).all()
            rows = found.rows[(found.rows.threat == threat) & (found.rows.attack == attack)]
            assert sorted(ids) == sorted(rows.id[rows.fooled])
            assert (rows.adversarial_prediction.to_numpy()[rows.fooled] != rows.label.to_numpy()[rows.fooled]).all()
            assert np.array_equal(rows.margin.to_numpy() > 0, rows.fooled.to_numpy())


@pytest.mark.parametrize("options", [{}, {"attacks": ["verdict:queries=100"], "certify": 12, "threats": ["l2:0.3"]}])
def test_the_same_run_writes_the_same_bytes_but_for_the_clock(tmp_path: Path, options: dict[str, Any]):
    for name in ("a", "b"):
        run(tmp_path / name, **{"attacks": ["pgd:steps=3", "gaussian_noise"], "curves": True, "seed": 3, **options})
    first, second = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] in ([], [CLOCK])


def test_the_batch_size_changes_nothing_but_its_own_mention(tmp_path: Path):
    found = [run(tmp_path / str(size), attacks=["pgd:steps=3"], batch_size=size) for size in (3, 64)]
    for column in ("id", "label", "correct", "fooled", "adversarial_prediction", "queries", "backwards"):
        assert found[0].rows[column].equals(found[1].rows[column])
    assert found[0].about["data"] == found[1].about["data"]
    assert found[0].about["models"] == found[1].about["models"]


def test_how_far_noise_must_go_is_found_on_the_first_right_examples_and_counted(tmp_path: Path):
    options = {"attacks": ["fgsm"], "curves": True, "threats": ["linf:0.05", "l2:0.3"], "dataset": data(linear(), n=40)}
    found = [run(tmp_path / str(size), batch_size=size, **options) for size in (7, 64)]
    assert found[0].about["models"] == found[1].about["models"]
    curves = found[0].curves
    for norm, told in found[0].about["models"]["toy"]["noise"].items():
        first = curves[(curves["norm"] == norm) & curves["correct"] & (curves["id"] < 32)]
        assert told["examples"] == len(first)
        assert told["rays"] == 4 * len(first)
        assert told["attack_median"] == np.sort(np.asarray(first["size"]))[(len(first) - 1) // 2]
        assert told["median"] is None or told["median"] > told["attack_median"]
        assert 2 * told["rays"] <= told["forwards"] <= 33 * told["rays"]


def test_without_curves_nothing_is_known_of_how_far_noise_must_go(tmp_path: Path):
    assert "noise" not in run(tmp_path / "out").about["models"]["toy"]


def test_an_audit_of_one_example_works(tmp_path: Path):
    found = run(tmp_path / "out", examples=1, curves=True, attacks=["fgsm", "square:queries=3"])
    assert found.about["data"]["n"] == 1
    assert found.about["configuration"]["examples"] == 1


def test_the_configuration_says_what_was_asked(tmp_path: Path):
    model = linear(classes=5)
    found = run(
        tmp_path / "out", model, attacks=["pgd:steps=3"], seed=7, configuration={"models": {"toy": "toy.py:make"}}
    )
    configuration = found.about["configuration"]
    assert configuration["models"] == {"toy": "toy.py:make"}
    assert configuration["attacks"]["pgd"]["steps"] == 3
    assert (configuration["data"], configuration["seed"], configuration["threats"]) == ("toy", 7, ["linf:0.05"])
    assert found.about["data"]["classes"] == ["0", "1", "2", "3", "4"]
    assert found.about["models"]["toy"]["parameters"] == 36 * 5
    assert found.about["models"]["toy"]["sha256"] == state_hash(model)


def test_models_are_left_as_they_were(tmp_path: Path):
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(36, 3)).train()
    before = state_hash(model)
    dataset = from_arrays(torch.rand(8, 1, 6, 6), torch.arange(8) % 3)
    run(tmp_path / "out", model, dataset=dataset, attacks=["pgd:steps=2"], curves=True)
    assert model.training
    assert model[1].training
    assert state_hash(model) == before
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_progress_ends_where_it_said_it_would(tmp_path: Path):
    told: list[tuple[int, int, str]] = []
    run(
        tmp_path / "out", attacks=["fgsm", "pgd:steps=2"], curves=True, batch_size=8, progress=lambda *a: told.append(a)
    )
    assert told[-1][0] == told[-1][1] == 20 * 3
    assert {total for _, total, _ in told} == {60}
    assert {what for _, _, what in told} == {"toy: fgsm, linf:0.05", "toy: pgd, linf:0.05", "toy: curve, linf"}


def test_the_gallery_is_spread_over_the_classes(tmp_path: Path):
    found = run(
        tmp_path / "out", linear(classes=4), dataset=data(linear(classes=4), n=60), threats=["linf:0.3", "l2:2"]
    )
    for threat in ("linf:0.3", "l2:2"):
        here = found.gallery["threat"] == threat
        labels = found.gallery["label"][here]
        rows = found.rows[(found.rows.threat == threat) & found.rows.correct & found.rows.fooled]
        assert 0 < len(labels) <= 6
        assert set(labels) == set(rows.label)
        assert set(found.gallery["id"][here]) <= set(rows.id)
        assert (found.gallery["adversarial_prediction"][here] != labels).all()
        assert (found.gallery["x"][here] != found.gallery["x_adv"][here]).any()


# -- curves --


def test_curves_have_one_run_per_norm(tmp_path: Path):
    found = run(tmp_path / "out", threats=["linf:0.01", "linf:0.05", "l2:0.3"], curves=True)
    assert list(found.about["models"]["toy"]["curves"]) == ["linf", "l2"]
    linf = found.curves[found.curves.norm == "linf"]
    assert len(linf) == 20
    assert not np.asarray(linf["size"])[~np.asarray(linf["correct"])].any()


def test_each_norm_has_a_curve_but_one_without_a_finite_eps(tmp_path: Path):
    attacks = ["rotate_translate:angles=3,shifts=3"]
    found = run(tmp_path / "out", threats=["linf:inf"], attacks=attacks, curves=True)
    assert found.about["models"]["toy"]["curves"] == {}
    assert found.about["models"]["toy"]["threats"]["linf:inf"]["eps"] is None
    assert "without a limit" in (tmp_path / "out" / "report.html").read_text()
    found = run(tmp_path / "norms", threats=["l0:3", "linf:0.1"], attacks=["uniform_noise"], curves=True)
    assert sorted(found.about["models"]["toy"]["curves"]) == ["l0", "linf"]


def test_a_model_without_gradients_is_audited_and_has_no_curve(tmp_path: Path):
    weight = np.random.default_rng(0).normal(size=(36, 3))
    model = FromCallable(lambda x: x.reshape(len(x), -1) @ weight)
    threats = ["linf:0.05", "l2:0.3"]
    found = run(tmp_path / "out", model, dataset=data(model), threats=threats, attacks=["uniform_noise"], curves=True)
    assert found.about["models"]["toy"]["curves"] == {}
    (why,) = [doubt["text"] for doubt in found.about["doubts"] if "curve" in doubt["text"]]
    assert (
        why == "No curve over eps in linf and l2: it takes gradients, and the model reveals its scores, no gradients."
    )


# -- verdicts and certificates --


def test_the_rows_say_what_the_verdict_saw_and_of_other_attacks_that_nobody_looked(tmp_path: Path):
    model, dataset = linear(), data(linear())
    found = run(tmp_path / "out", model, dataset=dataset, attacks=["verdict:effort=quick", "fgsm"])
    x, y = (torch.cat(parts) for parts in list(zip(*dataset.batches(None, 64), strict=True))[1:])
    result = attacks.run(attacks.CATALOG["verdict"]("quick"), model, x, y, "linf:0.05")
    assert result.seen is not None
    of_verdict, of_fgsm = (found.rows[found.rows.attack == name] for name in ("verdict", "fgsm"))
    assert of_verdict["stage"].tolist() == result.seen.stage.tolist()
    assert of_verdict["doubts"].tolist() == doubts(result.seen).tolist()
    np.testing.assert_array_equal(of_verdict["gap"], result.seen.gap.double())
    assert of_verdict["passes"].tolist() == result.passes.tolist()
    assert set(of_fgsm["stage"]) == {-1}
    assert set(of_fgsm["doubts"]) == {0}
    assert np.isnan(np.asarray(of_fgsm["gap"])).all()
    told = found.about["models"]["toy"]["threats"]["linf:0.05"]["verdict"]
    assert told["effort"] == "quick"
    assert sum(stage["fell"] for stage in told["stages"].values()) == result.fooled.sum()


def test_on_a_linear_model_the_bracket_is_closed(tmp_path: Path):
    """With two classes the attack is exact there, and so are the bounds."""
    model, threats = linear(classes=2), ["linf:0.01", "linf:0.03"]
    found = run(tmp_path / "out", model, dataset=data(model), certify=15, threats=threats)
    assert found.about["configuration"]["certify"] == 15
    for threat, told in found.about["models"]["toy"]["threats"].items():
        bracket, rows = told["bracket"], found.rows[(found.rows.threat == threat) & (found.rows.id < 15)]
        standing = int((~rows.fooled).sum())
        assert 0 < standing < 15
        assert bracket["n_tried"] == 15
        assert bracket["certified"] == bracket["attacked"] == {"count": standing, "share": standing / 15}
    fell = found.certificates.merge(found.rows, on=["threat", "id"])
    assert np.array_equal(fell["margin_x"].isna(), fell["fooled"])


def test_more_certificates_than_examples_are_as_many_as_there_are(tmp_path: Path):
    found = run(tmp_path / "out", certify=1000, batch_size=8)
    assert found.about["models"]["toy"]["threats"]["linf:0.05"]["bracket"]["n_tried"] == 20


def test_a_model_that_cannot_be_bounded_has_no_bracket_and_it_is_said_why(tmp_path: Path):
    model = Bad(lambda z: z.cumsum(1))
    found = run(tmp_path / "out", model, certify=5, threats=["linf:0.01", "l2:0.1"])
    assert not any("bracket" in told for told in found.about["models"]["toy"]["threats"].values())
    assert sum("Nothing is certified" in doubt["text"] for doubt in found.about["doubts"]) == 1


def test_a_certificate_that_is_false_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def boast(model: Any, x: Tensor, *_: Any) -> Certificate:
        return Certificate(torch.ones(len(x), dtype=torch.bool), torch.ones(len(x), dtype=torch.float64))

    monkeypatch.setattr(auditing, "certify", boast)
    with pytest.raises(RuntimeError, match="this is a bug of advgan"):
        run(tmp_path / "out", attacks=["gaussian_noise"], certify=20, curves=True, threats=["linf:0.2"])
    assert not (tmp_path / "out").exists()


# -- refusals --


class Bad(nn.Module):
    def __init__(self, function: Any, classes: int = 3):
        super().__init__()
        self.inner, self.function = linear(classes), function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.inner(x))


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda z: z.softmax(1), "returns probabilities"),
        (lambda z: (z, z), "returns tuple"),
        (lambda z: z[:, 0], "one logit per row"),
        (lambda z: z[:, :, None], "logits [20, K] are needed"),
        (lambda z: z * float("nan"), "NaN or inf"),
        (lambda z: z[:, :1].expand(-1, 2) / 0, "NaN or inf"),
        (lambda z: z.long(), "int64"),
        (lambda z: z[:, :2] + torch.tensor([0.0, 1.0]), "labels must be 0 to 1"),
        (lambda z: z @ torch.ones(7, 7), "cannot take inputs [b, 1, 6, 6]"),
        (lambda z: z + torch.rand_like(z) * 10, "is random"),
    ],
)
def test_models_that_cannot_be_attacked_are_refused_and_nothing_is_left(tmp_path: Path, function: Any, said: str):
    dataset = from_arrays(np.random.default_rng(0).random((20, 1, 6, 6)), np.arange(20) % 3)
    with pytest.raises(InputError) as caught:
        run(tmp_path / "out", Bad(function), dataset=dataset, attacks=["fgsm", "pgd:steps=5"], threats=["linf:0.2"])
    assert said in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_model_whose_rows_depend_on_each_other_is_refused(tmp_path: Path):
    model = Bad(lambda z: z if len(z) == 20 else -z, classes=2)
    with pytest.raises(InputError, match="its rows are not independent"):
        run(tmp_path / "out", model, dataset=data(linear(classes=2), wrong=0), threats=["linf:0.03"])
    assert list(tmp_path.iterdir()) == []


def test_a_claim_that_a_plain_pass_does_not_bear_out_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def boast(attack: Any, victim: Any, x: Tensor, goal: Any, threat: Any, **_: Any) -> Result:
        n = len(x)
        ones = torch.ones(n, dtype=torch.int64)
        return Result(x.clone(), ones.bool(), torch.zeros(n, dtype=torch.float64), ones, ones, ones, ones)

    monkeypatch.setattr(auditing.catalogue, "run", boast)
    audit = run(tmp_path / "out", curves=False)
    rows = audit.rows
    correct = rows["correct"].to_numpy(dtype=bool)
    np.testing.assert_array_equal(rows["fooled"], ~correct)
    assert np.isinf(rows["size"].to_numpy()[correct]).all()
    told = [doubt["text"] for doubt in audit.about["doubts"] if "not borne out" in doubt["text"]]
    assert len(told) == 1
    assert told[0].startswith(str(correct.sum()))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"threats": []}, "No threat"),
        ({"threats": ["linf:0.1", "linf:0.1"]}, "there twice"),
        ({"threats": ["linf:nan"]}, "must be a number of at least 0"),
        ({"threats": ["linf:-1"]}, "must be a number of at least 0"),
        ({"threats": ["lin:0.1"]}, "Did you mean 'linf'"),
        ({"attacks": []}, "No attack"),
        ({"attacks": ["pgdd"]}, "Did you mean 'pgd'"),
        ({"attacks": ["pgd", "pgd"]}, "there twice"),
        ({"device": "cuda:99"}, "was asked for"),
        ({"device": "gpu"}, "There is no device 'gpu'"),
        ({"seed": -1}, "The seed is -1"),
        ({"certify": -1}, "--certify is -1"),
        ({"examples": 0}, "at least one example"),
        ({"batch_size": 0}, "at least one example a batch"),
    ],
)
def test_what_cannot_be_run_is_refused_and_nothing_is_left(tmp_path: Path, options: dict[str, Any], said: str):
    with pytest.raises(InputError) as caught:
        run(tmp_path / "out", **options)
    assert said in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_eps_of_zero_finds_only_what_is_wrong_already(tmp_path: Path):
    found = run(tmp_path / "out", threats=["linf:0"], attacks=["fgsm", "uniform_noise"])
    assert found.about["models"]["toy"]["threats"]["linf:0"]["robust"] == 18
    assert sorted(found.rows.id[found.rows.fooled].unique()) == [18, 19]


# -- options --


def test_options_have_the_types_of_the_signature():
    assert attack_from_text("pgd:steps=40,share=0.1") == attacks.pgd(steps=40, share=0.1)
    assert attack_from_text(" apgd : steps=7 , loss=margin ") == attacks.APGD(steps=7, loss="margin")
    assert attack_from_text("square") == attacks.Square()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pgd:stepss=4", "Did you mean 'steps'"),
        ("pgd:steps=four", "'four' is not a whole number"),
        ("pgd:steps=4.5", "'4.5' is not a whole number"),
        ("pgd:share=nan", "is not a finite number"),
        ("pgd:steps", "is no option"),
        ("pgd:steps=1,steps=2", "gives steps twice"),
        ("pgd:loss=crossentropy", "Did you mean 'cross_entropy'"),
        ("apgd:steps=0", "at least one step"),
        ("mi_fgsm:steps=0", "steps"),
        ("", "There is no attack ''"),
    ],
)
def test_options_that_cannot_be_used_are_explained(text: str, said: str):
    with pytest.raises(InputError) as caught:
        attack_from_text(text)
    assert said in str(caught.value)


def test_attacks_go_by_their_names_where_those_are_enough():
    assert list(named_attacks(["pgd:steps=2", "apgd"])) == ["pgd", "apgd"]
    assert list(named_attacks(["pgd:steps=2", "pgd", attacks.Square()])) == ["pgd:steps=2", "pgd", "square"]


def test_every_attack_of_the_catalogue_is_described_as_plain_json():
    import json

    for name in CATALOG:
        told = described(attack_from_text(f"{name}:surrogate=digits:robust" if name == "transferred" else name))
        assert json.loads(json.dumps(told, allow_nan=False)) == told


# -- hashes --


def test_the_hash_of_a_model_is_that_of_its_weights():
    assert state_hash(linear()) == state_hash(linear())
    changed = linear()
    with torch.no_grad():
        changed[1].weight[2, 3] += 1e-3  # type: ignore[index]
    assert state_hash(changed) != state_hash(linear())
    assert state_hash(linear().half()) != state_hash(linear())
    assert state_hash(linear().bfloat16()) != state_hash(linear().half())


def test_the_hash_of_data_does_not_depend_on_the_batches():
    def hashed(examples: int | None, batch_size: int) -> str:
        seen = DataHash()
        for batch in data(linear()).batches(examples, batch_size):
            seen.add(batch)
        return seen.hexdigest()

    assert hashed(None, 3) == hashed(None, 20)
    assert hashed(19, 20) != hashed(None, 20)
