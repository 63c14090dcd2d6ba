"""Do the attacks contradict each other, or are they too weak together?"""

from collections.abc import Callable, Iterator

import numpy as np

from reports import words
from reports.doubts.evidence import Evidence, doubt, each, graded
from reports.summary import Sweep


def masked_gradients(evidence: Evidence) -> Iterator[dict]:
    for sweep in each(evidence):
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
                yield doubt("warning" if kind == "noise" else graded(count, sweep.n), text, sweep.model, sweep.threat)


def single_step_beats_many(evidence: Evidence) -> Iterator[dict]:
    for sweep in each(evidence):
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
            yield doubt(graded(count, sweep.n), text, sweep.model, sweep.threat)


def weak_set(evidence: Evidence) -> Iterator[dict]:
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
                yield doubt("warning", text, model, weak[0].threat if len(weak) == 1 else None)


def _broken_by(evidence: Evidence, sweep: Sweep, *kinds: str) -> np.ndarray:
    """[n] bool: right when clean, and an attack of one of these kinds got through."""
    chosen = [k for k in range(len(sweep.attacks)) if evidence.kind(sweep, k) in kinds]
    return np.asarray(sweep.broken[chosen].any(axis=0))


def _names(evidence: Evidence, sweep: Sweep, *kinds: str) -> str:
    return words.listed([name for k, name in enumerate(sweep.attacks) if evidence.kind(sweep, k) in kinds])


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
