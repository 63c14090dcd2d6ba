"""What in the rows of an audit speaks against believing it?

Each doubt is {"model", "threat", "severity", "text"}: a name or None for all, "warning" or "note", and a sentence with
its counts and its remedy.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from attacks.doubts import MEANINGS
from attacks.verdict import Stage
from reports import summary, verdicts, words
from reports.summary import Curve, Sweep
from reports.verdicts import Verdict

FEW = 100  # examples: with fewer, the 95 % interval is up to 20 points wide
BLIND = ("scores", "decision")  # what a model reveals, where that is no gradients
TELLING = 0.01  # share of the examples from which a disagreement between attacks is a warning


@dataclass(frozen=True)
class Evidence:
    """What the doubts are drawn from."""

    configuration: dict[str, Any]
    classes: list[str]
    sweeps: dict[str, dict[str, Sweep]]
    blind: frozenset[str]  # the models that reveal no gradients
    curves: dict[str, dict[str, Curve]]
    verdicts: dict[tuple[str, str], Verdict]  # (model, threat) ->

    def kind(self, sweep: Sweep, k: int) -> str:
        return summary.kind(sweep, k, self.configuration)


def doubts(about: dict, rows: pd.DataFrame, curve_rows: pd.DataFrame) -> list[dict]:
    """Every doubt that the rows alone give rise to; warnings first."""
    evidence = Evidence(
        about.get("configuration", {}),
        list(about.get("data", {}).get("classes", [])),
        summary.sweeps(rows),
        frozenset(name for name, told in about.get("models", {}).items() if told.get("access") in BLIND),
        summary.curves(curve_rows),
        verdicts.verdicts(rows, about.get("configuration", {})),
    )
    found = [doubt for ask in QUESTIONS for doubt in ask(evidence)]
    return sorted(found, key=lambda doubt: doubt["severity"] != "warning")


def _doubt(severity: str, text: str, model: str | None = None, threat: str | None = None) -> dict:
    return {"model": model, "threat": threat, "severity": severity, "text": text}


def _graded(count: int, n: int) -> str:
    return "warning" if count > 1 and count >= TELLING * n else "note"


def _each(evidence: Evidence) -> Iterator[Sweep]:
    for by_threat in evidence.sweeps.values():
        yield from by_threat.values()


def _broken_by(evidence: Evidence, sweep: Sweep, *kinds: str) -> np.ndarray:
    """[n] bool: right when clean, and an attack of one of these kinds got through."""
    chosen = [k for k in range(len(sweep.attacks)) if evidence.kind(sweep, k) in kinds]
    return np.asarray(sweep.broken[chosen].any(axis=0))


def _names(evidence: Evidence, sweep: Sweep, *kinds: str) -> str:
    return words.listed([name for k, name in enumerate(sweep.attacks) if evidence.kind(sweep, k) in kinds])


def _masked_gradients(evidence: Evidence) -> Iterator[dict]:
    for sweep in _each(evidence):
        by_gradient = _broken_by(evidence, sweep, "gradient", "single step")
        if _names(evidence, sweep, "gradient", "single step") == words.NO_NAMES:
            continue
        for kind in ("noise", "black box"):
            count = int((_broken_by(evidence, sweep, kind) & ~by_gradient).sum())
            if count:
                text = (
                    f"{_names(evidence, sweep, kind)} ({'random noise' if kind == 'noise' else 'no gradients'}) broke "
                    f"{words.plural(count, 'example')} of {sweep.n:,} that no gradient attack did: the gradients may "
                    "be masked, so the true robust accuracy may be lower still. Give the gradient attacks more steps, "
                    "restarts and another loss, and the black-box ones more queries."
                )
                yield _doubt("warning" if kind == "noise" else _graded(count, sweep.n), text, sweep.model, sweep.threat)


def _single_step_beats_many(evidence: Evidence) -> Iterator[dict]:
    for sweep in _each(evidence):
        if _names(evidence, sweep, "gradient") == words.NO_NAMES:
            continue
        lost = _broken_by(evidence, sweep, "single step") & ~_broken_by(evidence, sweep, "gradient")
        count = int(lost.sum())
        if count:
            text = (
                f"{_names(evidence, sweep, 'single step')} (one gradient) broke {words.plural(count, 'example')} of "
                f"{sweep.n:,} that {_names(evidence, sweep, 'gradient')} (many gradients) did not: the longer attacks "
                "may be stuck. Give them more steps or restarts, or a smaller step."
            )
            yield _doubt(_graded(count, sweep.n), text, sweep.model, sweep.threat)


def _doubted_by_the_verdict(evidence: Evidence) -> Iterator[dict]:
    for (model, threat), verdict in evidence.verdicts.items():
        standing = int(verdict.standing.sum())
        for doubt, meaning in MEANINGS.items():
            count = verdict.with_doubt(doubt)
            if count:
                text = f"For {words.of(count, standing)} examples that stand, {meaning.what}. {meaning.remedy}"
                yield _doubt(_graded(count, len(verdict.standing)), text + _further(verdict), model, threat)


def _further(verdict: Verdict) -> str:
    return " This was a first look: --effort standard goes after it." if verdict.effort == "quick" else ""


def _gradients_failed(evidence: Evidence) -> Iterator[dict]:
    for (model, threat), verdict in evidence.verdicts.items():
        broken = verdict.correct & verdict.fooled
        count, total = int((broken & (verdict.stage == Stage.SEARCH)).sum()), int(broken.sum())
        if count:
            text = (
                f"{words.of(count, total)} examples that {verdict.attack} broke withstood its gradients and fell to "
                "its search without them: the gradients are masked there, and what stands rests on that search. "
                f"Give it more queries (--attack {verdict.attack.partition(':')[0]}:queries=50000)."
            )
            yield _doubt(_graded(count, len(broken)), text, model, threat)


def _still_finding(evidence: Evidence) -> Iterator[dict]:
    for (model, threat), verdict in evidence.verdicts.items():
        beyond, count = verdict.last(verdicts.LAST["tenth"])
        n = len(verdict.correct)
        if _graded(min(count, int(verdict.standing.sum())), n) == "warning":
            text = (
                f"The number is not final: the last tenth of the passes that {verdict.attack} spent on what stands, "
                f"those after the first {beyond:,} of an example, still broke {words.of(count, n)}. {_more(verdict)}"
            )
            yield _doubt("warning", text, model, threat)


def _more(verdict: Verdict) -> str:
    higher = {"quick": "Use --effort standard.", "standard": "Use --effort exhaustive."}
    return higher.get(verdict.effort, "Give it more rounds (--attack verdict:effort=exhaustive,rounds=64).")


def _smaller_eps_broke_more(evidence: Evidence) -> Iterator[dict]:
    for by_threat in evidence.sweeps.values():
        for larger in by_threat.values():
            smaller = [other for other in by_threat.values() if _within(other, larger)]
            broken = [other.broken.any(axis=0) for other in smaller]
            if not smaller:
                continue
            count = int((larger.robust & np.logical_or.reduce(broken)).sum())
            if count:
                text = (
                    f"{larger.threat} leaves {words.plural(count, 'example')} standing that "
                    f"{words.listed([other.threat for other in smaller])} already broke; counting "
                    f"{'it' if count == 1 else 'them'}, {_at_most(larger, count)}. Use an attack with more steps, "
                    "or report the lower number."
                )
                yield _doubt(_graded(count, larger.n), text, larger.model, larger.threat)


def _within(smaller: Sweep, larger: Sweep) -> bool:
    """Whether one threat's ball lies inside another's of the same norm, and both saw the same examples."""
    same = words.split(smaller.threat)[0] == words.split(larger.threat)[0]
    nested = same and words.eps(smaller.threat) < words.eps(larger.threat) < np.inf
    return nested and np.array_equal(smaller.ids, larger.ids)


def _at_most(sweep: Sweep, fewer: int) -> str:
    count = int(sweep.robust.sum()) - fewer
    return f"robust accuracy is at most {words.percent(count, sweep.n)} ({words.of(count, sweep.n)})"


def _curve_broke_more(evidence: Evidence) -> Iterator[dict]:
    for sweep in _each(evidence):
        curve = evidence.curves.get(sweep.model, {}).get(words.split(sweep.threat)[0])
        if curve is None or words.eps(sweep.threat) == np.inf or not np.array_equal(curve.ids, sweep.ids):
            continue
        count = int((sweep.robust & (curve.size <= words.eps(sweep.threat))).sum())
        if count:
            text = (
                f"The run for the curve ({curve.attack}) breaks {words.plural(count, 'more example')} "
                f"within this eps; counting {'it' if count == 1 else 'them'}, {_at_most(sweep, count)}. "
                "Add a stronger attack, or report the lower number."
            )
            yield _doubt(_graded(count, sweep.n), text, sweep.model, sweep.threat)


def _curve_never_ends(evidence: Evidence) -> Iterator[dict]:
    for model, by_norm in evidence.curves.items():
        left = {norm: int((curve.correct & ~np.isfinite(curve.size)).sum()) for norm, curve in by_norm.items()}
        counts = [
            f"{words.of(count, int(by_norm[norm].correct.sum()))} in {words.norm(norm)}"
            for norm, count in left.items()
            if count
        ]
        if counts:
            attacks = words.listed(list(dict.fromkeys(by_norm[norm].attack for norm, count in left.items() if count)))
            text = (
                f"A curve never reaches zero: at no size did {attacks} find a perturbation for some of the correctly "
                f"classified examples ({words.listed(counts)}), though without a limit nearly all can be broken. "
                "Suspect masked gradients, or give it more steps."
            )
            yield _doubt(_graded(max(left.values()), next(iter(by_norm.values())).n), text, model)


def _eps_makes_no_difference(evidence: Evidence) -> Iterator[dict]:
    for model, by_threat in evidence.sweeps.items():
        for norm in dict.fromkeys(words.split(threat)[0] for threat in by_threat):
            family = sorted(
                (sweep for threat, sweep in by_threat.items() if words.split(threat)[0] == norm),
                key=lambda sweep: words.eps(sweep.threat),
            )
            family = [sweep for sweep in family if words.eps(sweep.threat) < np.inf]
            if not family:
                continue
            first, last = family[0], family[-1]
            stand, n = int(last.robust.sum()), last.n
            wider = words.eps(last.threat) >= 1.5 * words.eps(first.threat)
            if wider and stand == int(first.robust.sum()) and 0 < stand < int(last.correct.sum()):
                text = (
                    f"Robust accuracy does not fall from {first.threat} to {last.threat}: "
                    f"{words.of(stand, n)} stand at both. Suspect masked gradients; add a black-box attack "
                    "and one with another loss."
                )
                yield _doubt("warning", text, model, last.threat)


def _nothing_broken(evidence: Evidence) -> Iterator[dict]:
    for model, by_threat in evidence.sweeps.items():
        whole = [threat for threat, sweep in by_threat.items() if words.eps(threat) > 0 and not sweep.broken.any()]
        correct = int(next(iter(by_threat.values())).correct.sum())
        if correct and whole:
            text = (
                f"Nothing broke under {words.listed(whole)}: all "
                f"{words.plural(correct, 'correctly classified example')} stand. Check that eps is in the units of the "
                "inputs, and try a larger one."
            )
            yield _doubt("note", text, model, whole[0] if len(whole) == 1 else None)


def _weak_set(evidence: Evidence) -> Iterator[dict]:
    said = {
        frozenset({"noise"}): "only random noise was tried, which finds next to nothing",
        frozenset({"single step"}): "only a single gradient step was tried, which many models withstand by accident",
        frozenset({"single step", "noise"}): "nothing stronger than one gradient step and random noise was tried",
        frozenset({"black box"}): "only black-box attacks were tried, which see no gradient",
        frozenset({"black box", "noise"}): "only black-box attacks and random noise were tried, which see no gradient",
    }
    for model, by_threat in evidence.sweeps.items():
        for reason, weak in _grouped(by_threat, lambda sweep: said.get(_kinds(evidence, sweep), "")).items():
            if reason:
                text = (
                    f"A weak set of attacks under {words.listed([sweep.threat for sweep in weak])}: {reason}. The true "
                    f"robust accuracy is likely lower; {_stronger(evidence, model)}"
                )
                yield _doubt("warning", text, model, weak[0].threat if len(weak) == 1 else None)


def _stronger(evidence: Evidence, model: str) -> str:
    if model not in evidence.blind:
        return "add --attack apgd."
    return "add black-box attacks of many queries, or attack a copy of the model that gives gradients."


def _kinds(evidence: Evidence, sweep: Sweep) -> frozenset[str]:
    return frozenset(evidence.kind(sweep, k) for k in range(len(sweep.attacks)))


def _grouped(by_threat: dict[str, Sweep], key: Callable[[Sweep], str]) -> dict[str, list[Sweep]]:
    groups: dict[str, list[Sweep]] = {}
    for sweep in by_threat.values():
        groups.setdefault(key(sweep), []).append(sweep)
    return groups


def _never_judged(evidence: Evidence) -> Iterator[dict]:
    for model, by_threat in evidence.sweeps.items():
        sweep = next(iter(by_threat.values()))
        count = int((~sweep.correct & ~sweep.fooled.all(axis=0)).sum())
        if count:
            text = (
                f"{words.of(count, sweep.n)} examples are wrong when clean, yet some attack does not count them as "
                "fooled: the model's outputs there are likely NaN or infinite. Look at these inputs and at the model's "
                "numerics."
            )
            yield _doubt("warning", text, model)


def _near_chance(evidence: Evidence) -> Iterator[dict]:
    for model, by_threat in evidence.sweeps.items():
        sweep = next(iter(by_threat.values()))
        correct, n = int(sweep.correct.sum()), sweep.n
        chance = 1 / max(2, len(evidence.classes) or len(np.unique(sweep.labels)))
        if summary.interval(correct, n)[0] <= chance and correct / n <= (1 + chance) / 2:
            text = (
                f"On clean inputs the model gets {words.of(correct, n)} right ({words.percent(correct, n)}), which "
                f"cannot be told from guessing ({words.share(chance)}). Check the order of the labels, the scaling of "
                "the inputs and the weights before anything else."
            )
            yield _doubt("warning", text, model)


def _sample(evidence: Evidence) -> Iterator[dict]:
    sweep = next(_each(evidence))
    present = set(np.unique(sweep.labels).tolist())
    if sweep.n < FEW:
        low, high = summary.interval(int(sweep.robust.sum()), sweep.n)
        text = (
            f"Only {words.plural(sweep.n, 'example')}: the 95 % interval under {sweep.threat} is "
            f"{words.interval(low, high)} for {sweep.model}. Audit at least {FEW}, better 1,000 --examples."
        )
        yield _doubt("warning" if sweep.n < FEW / 4 else "note", text)
    if len(present) == 1 and sweep.n > 1:
        (label,) = present
        name = evidence.classes[label] if 0 <= label < len(evidence.classes) else str(label)
        text = (
            f"All {words.plural(sweep.n, 'example')} are of one class ({name}), so nothing is known about the others. "
            "Take the examples from the whole data set; it may be sorted by class."
        )
        yield _doubt("warning", text)
        return
    missing = [name for label, name in enumerate(evidence.classes) if label not in present]
    if missing:
        text = (
            f"{words.of(len(missing), len(evidence.classes))} classes have no example here "
            f"({words.listed(missing)}), so nothing is known about them. Audit more --examples."
        )
        yield _doubt("note", text)


QUESTIONS = (
    _never_judged,
    _near_chance,
    _weak_set,
    _masked_gradients,
    _single_step_beats_many,
    _doubted_by_the_verdict,
    _gradients_failed,
    _still_finding,
    _smaller_eps_broke_more,
    _curve_broke_more,
    _curve_never_ends,
    _eps_makes_no_difference,
    _nothing_broken,
    _sample,
)
