"""Are the numbers of an audit right, and are they said truthfully?"""

import numpy as np
import pandas as pd
import pytest

from reports import doubts, summary, words
from reports.record import Audit
from tests.reports import synthetic


def rows(fooled: dict[tuple[str, str], list[int]], n: int, wrong: tuple[int, ...] = (), **columns) -> pd.DataFrame:
    """Rows of one model: (threat, attack) -> the ids that the attack broke. The ids in `wrong` are wrong when clean."""
    frames = []
    for (threat, attack), broken in fooled.items():
        _, queries, backwards = synthetic.KINDS[attack]
        frame = pd.DataFrame({"id": np.arange(n)})
        frame["model"], frame["threat"], frame["attack"] = "m", threat, attack
        frame["label"] = np.arange(n) % 10
        frame["correct"] = ~frame["id"].isin(wrong)
        frame["fooled"] = frame["id"].isin([*broken, *wrong])
        frame["clean_prediction"] = frame["label"]
        frame["adversarial_prediction"] = (frame["label"] + frame["fooled"]) % 10
        frame["size"] = np.where(frame["fooled"], np.where(frame["correct"], 0.05, 0.0), np.inf)
        frame["queries"], frame["backwards"] = queries, backwards
        frames.append(frame.assign(**columns))
    return pd.concat(frames, ignore_index=True)


def curve(sizes: list[float], norm: str = "linf") -> pd.DataFrame:
    frame = pd.DataFrame({"id": np.arange(len(sizes)), "size": sizes, "correct": np.array(sizes) > 0})
    return frame.assign(model="m", norm=norm, attack="fmn", queries=101, backwards=100)


NO_CURVE = curve([])
ABOUT = {"configuration": {"attacks": {}}, "data": {"classes": synthetic.CLASSES}}


def said(frame: pd.DataFrame, curves: pd.DataFrame = NO_CURVE, about: dict = ABOUT) -> dict[str, str]:
    """text -> severity"""
    return {doubt["text"]: doubt["severity"] for doubt in doubts.doubts(about, frame, curves)}


def test_robust_accuracy_counts_all_and_success_the_initially_correct_ones():
    frame = rows({("linf:0.1", "fgsm"): [0, 1], ("linf:0.1", "pgd"): [1, 2, 3]}, n=10, wrong=(9,))
    found = summary.numbers({}, frame, NO_CURVE, {})["m"]
    threat = found["threats"]["linf:0.1"]
    assert (found["n"], found["correct"], found["clean_accuracy"]) == (10, 9, 0.9)
    assert (threat["robust"], threat["robust_accuracy"]) == (5, 0.5)
    assert threat["attacks"]["pgd"] == {
        "robust": 6,
        "robust_accuracy": 0.6,
        "broken": 3,
        "success_rate": 3 / 9,
        "queries": 41.0,
        "backwards": 40.0,
        "file": None,
    }


def test_robust_to_all_is_robust_under_every_threat():
    frame = rows({("linf:0.1", "pgd"): [0, 1], ("l2:1", "pgd"): [1, 2]}, n=10)
    assert summary.numbers({}, frame, NO_CURVE, {})["m"]["robust_to_all"]["robust"] == 7


def test_a_threat_knows_its_norm_and_eps():
    threats = summary.numbers({}, rows({("linf:8/255", "pgd"): []}, n=3), NO_CURVE, {})["m"]["threats"]
    assert threats["linf:8/255"]["norm"] == "linf"
    assert threats["linf:8/255"]["eps"] == 8 / 255


def test_the_interval_is_the_exact_one():
    assert summary.interval(0, 100) == (0.0, pytest.approx(1 - 0.025 ** (1 / 100)))
    assert summary.interval(100, 100) == (pytest.approx(0.025 ** (1 / 100)), 1.0)
    assert summary.interval(1, 1) == (pytest.approx(0.025), 1.0)


def test_the_numbers_can_be_recomputed_from_the_rows(tmp_path):
    synthetic.write(tmp_path / "audit", n=120)
    audit = Audit.load(tmp_path / "audit")
    for key, group in audit.rows.groupby(["model", "threat"], observed=True):
        model, threat = key if isinstance(key, tuple) else ("", "")
        stands = group.groupby("id").apply(lambda one: bool(one["correct"].all() and not one["fooled"].any()))
        told = audit.about["models"][model]["threats"][threat]
        assert told["robust"] == stands.sum()
        assert told["robust_accuracy"] == stands.mean()


def test_the_curve_falls_at_each_smallest_perturbation():
    one = summary.curves(curve([0.0, 0.1, 0.2, np.inf]))["m"]["linf"]
    assert one.standing(np.array([0.0, 0.05, 0.1, 0.2, 9.0])).tolist() == [3, 3, 2, 1, 1]


def test_the_median_size_is_none_where_more_than_half_stand_for_ever():
    frame = rows({("linf:0.1", "pgd"): []}, n=3)
    numbers = [summary.numbers({}, frame, curve(sizes), {})["m"]["curves"]["linf"] for sizes in SIZES]
    assert [one["median_size"] for one in numbers] == [0.2, None]
    assert [one["found"] for one in numbers] == [3, 1]


SIZES = ([0.1, 0.2, 0.3], [0.1, np.inf, np.inf])


def test_classes_are_counted_by_label():
    frame = rows({("linf:0.1", "pgd"): [0, 10, 1]}, n=20, wrong=(11,))
    first, second, *_ = summary.per_class(summary.sweeps(frame)["m"])
    assert (first.n, first.correct, first.robust["linf:0.1"]) == (2, 2, 0)
    assert (second.n, second.correct, second.robust["linf:0.1"]) == (2, 1, 0)


def test_attacks_that_saw_other_examples_are_not_compared():
    frame = pd.concat([rows({("linf:0.1", "pgd"): []}, n=3), rows({("linf:0.1", "fgsm"): []}, n=4)])
    with pytest.raises(ValueError, match="other examples"):
        summary.sweeps(frame)


@pytest.mark.parametrize(
    ("count", "total", "text"),
    [
        (0, 600, "0 %"),
        (600, 600, "100 %"),
        (2999, 3000, "99.97 %"),
        (1, 3000, "0.03 %"),
        (1, 10**6, "0.0001 %"),
        (10**9 - 1, 10**9, "> 99.999999 %"),
        (1, 3, "33.3 %"),
        (0, 0, "–"),
    ],
)
def test_a_share_never_looks_like_all_or_nothing_unless_it_is(count, total, text):
    assert words.percent(count, total) == text


@pytest.mark.parametrize(
    ("probability", "text"),
    [(1.0, "> 99.9 %"), (0.99951, "> 99.9 %"), (0.873, "87.3 %"), (0.0, "< 0.1 %"), (np.nan, "–")],
)
def test_a_confidence_is_never_certainty(probability, text):
    assert words.confidence(probability) == text


@pytest.mark.parametrize(
    ("value", "text"), [(101.0, "101"), (95.12, "95.1"), (0.35, "0.35"), (1234.5, "1,234"), (None, "–")]
)
def test_means_are_short(value, text):
    assert words.number(value) == text


def test_an_audit_without_contradictions_raises_no_doubt():
    frame = rows({("linf:0.1", "pgd"): [0, 1, 2], ("linf:0.1", "square"): [1]}, n=100)
    assert said(frame, curve([*([0.05] * 3), *([0.5] * 97)])) == {}


def test_a_black_box_attack_that_beats_the_gradients_is_a_doubt():
    few = {("linf:0.1", "pgd"): [0], ("linf:0.1", "square"): [0, 1]}
    many = {("linf:0.1", "pgd"): [0], ("linf:0.1", "square"): [0, 1, 2, 3]}
    (text,) = (found := said(rows(few, n=100)))
    assert "square (no gradients) broke 1 example of 100 that no gradient attack did" in text
    assert found[text] == "note"
    assert list(said(rows(many, n=100)).values()) == ["warning"]


def test_noise_that_beats_the_gradients_is_a_warning():
    found = said(rows({("linf:0.1", "pgd"): [0], ("linf:0.1", "uniform_noise"): [5]}, n=100))
    assert list(found.values()) == ["warning"]
    assert "random noise" in next(iter(found))


def test_a_single_step_that_beats_many_is_a_doubt():
    found = said(rows({("linf:0.1", "pgd"): [0], ("linf:0.1", "fgsm"): [1, 2]}, n=100))
    assert "fgsm (one gradient) broke 2 examples of 100 that pgd (many gradients) did not" in next(iter(found))


def test_a_smaller_eps_that_broke_more_is_a_doubt():
    found = said(rows({("linf:0.1", "pgd"): [0, 1, 2], ("linf:0.2", "pgd"): [0, 3, 4, 5]}, n=100))
    (text,) = found
    assert "linf:0.2 leaves 2 examples standing that linf:0.1 already broke" in text
    assert "at most 94.0 % (94 of 100)" in text


def test_another_norm_is_not_a_smaller_eps():
    assert said(rows({("linf:0.1", "pgd"): [0, 1, 2], ("l2:0.5", "pgd"): [3]}, n=100)) == {}


def test_a_curve_that_breaks_more_within_the_eps_is_a_doubt():
    found = said(rows({("linf:0.3", "pgd"): [0]}, n=100), curve([*([0.3] * 4), *([0.5] * 96)]))
    (text,) = found
    assert "The run for the curve (fmn) breaks 3 more examples within this eps" in text
    assert "at most 96.0 % (96 of 100)" in text


def test_a_curve_that_never_reaches_zero_is_a_doubt():
    found = said(rows({("linf:0.3", "pgd"): [0]}, n=100), curve([*([0.1] * 1), *([np.inf] * 9), *([0.5] * 90)]))
    assert "9 of 100 in L∞" in next(iter(found))
    assert list(found.values()) == ["warning"]


def test_robust_accuracy_that_does_not_fall_with_eps_is_a_doubt():
    found = said(rows({("linf:0.1", "pgd"): [0, 1], ("linf:0.4", "pgd"): [0, 1]}, n=100))
    assert "does not fall from linf:0.1 to linf:0.4: 98 of 100 stand at both" in next(iter(found))


@pytest.mark.parametrize(
    ("attacks", "why"),
    [
        (["fgsm"], "single gradient step"),
        (["fgsm", "uniform_noise"], "one gradient step and random noise"),
        (["uniform_noise", "gaussian_noise"], "only random noise"),
        (["square"], "only black-box"),
    ],
)
def test_a_weak_set_of_attacks_is_a_warning(attacks, why):
    found = said(rows({("linf:0.1", attack): [0] for attack in attacks}, n=100))
    assert any(why in text and severity == "warning" for text, severity in found.items())


@pytest.mark.parametrize(("access", "advice"), [("gradient", "add --attack apgd"), ("scores", "a copy of the model")])
def test_what_reveals_no_gradients_is_not_told_to_be_attacked_by_them(access, advice):
    about = {**ABOUT, "models": {"m": {"access": access}}}
    (text,) = said(rows({("linf:0.1", "square"): [0]}, n=100), about=about)
    assert advice in text


def test_attacks_that_needed_one_step_of_many_are_no_single_steps():
    frame = rows({("linf:0.1", "pgd"): list(range(5)), ("linf:0.1", "square"): []}, n=5)
    about = {"configuration": {"attacks": {"pgd": {"class": "GradientAscent", "steps": 40}}}}
    sweep = summary.sweeps(frame.assign(backwards=np.where(frame["attack"] == "pgd", 1, 0)))["m"]["linf:0.1"]
    assert [summary.kind(sweep, k, about["configuration"]) for k in range(2)] == ["gradient", "black box"]


def test_few_examples_are_a_doubt_and_many_are_not():
    assert "Only 50 examples: the 95 % interval" in next(iter(said(rows({("linf:0.1", "pgd"): [0]}, n=50))))


def test_a_sample_of_one_class_is_a_warning():
    found = said(rows({("linf:0.1", "pgd"): [0]}, n=100, label=3))
    assert "All 100 examples are of one class (3)" in next(iter(found))
    assert "warning" in found.values()


def test_missing_classes_are_named():
    frame = rows({("linf:0.1", "pgd"): [0]}, n=100)
    assert "2 of 10 classes have no example here (8 and 9)" in next(iter(said(frame.assign(label=frame["label"] % 8))))


def test_guessing_is_called_guessing():
    found = said(rows({("linf:0.1", "pgd"): [0]}, n=100, wrong=tuple(range(12, 100))))
    assert any("gets 12 of 100 right (12.0 %), which cannot be told from guessing (10.0 %)" in text for text in found)


def test_a_model_whose_outputs_are_not_numbers_is_noticed():
    frame = rows({("linf:0.1", "pgd"): [0]}, n=100)
    broken = frame.assign(correct=frame["id"] > 4, fooled=frame["id"] == 50)
    assert any("NaN or infinite" in text for text in said(broken))


def test_nothing_broken_is_noted():
    found = said(rows({("linf:0.1", "pgd"): [], ("l2:1", "pgd"): []}, n=100))
    assert list(found.values()) == ["note"]
    assert "Nothing broke under linf:0.1 and l2:1" in next(iter(found))


def test_warnings_come_before_notes():
    severities = list(said(rows({("linf:0.1", "fgsm"): []}, n=90, label=1)).values())
    assert severities == sorted(severities, key=lambda severity: severity != "warning")
    assert len(set(severities)) == 2


def test_every_doubt_has_its_four_parts():
    for doubt in doubts.doubts(ABOUT, rows({("linf:0.1", "fgsm"): [0]}, n=5), NO_CURVE):
        assert list(doubt) == ["model", "threat", "severity", "text"]
