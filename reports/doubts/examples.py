"""Do the examples, and what the model says of them when clean, bear a number at all?"""

from collections.abc import Iterator

import numpy as np

from reports import summary, words
from reports.doubts.evidence import Evidence, doubt, each

FEW = 100  # examples: with fewer, the 95 % interval is up to 20 points wide


def never_judged(evidence: Evidence) -> Iterator[dict]:
    for model, by_threat in evidence.sweeps.items():
        sweep = next(iter(by_threat.values()))
        count = int((~sweep.correct & ~sweep.fooled.all(axis=0)).sum())
        if count:
            text = (
                f"{words.of(count, sweep.n)} examples are wrong when clean, yet some attack does not count them as "
                "fooled: the model's outputs there are likely NaN or infinite. Look at these inputs and at the model's "
                "numerics."
            )
            yield doubt("warning", text, model)


def near_chance(evidence: Evidence) -> Iterator[dict]:
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
            yield doubt("warning", text, model)


def sample(evidence: Evidence) -> Iterator[dict]:
    sweep = next(each(evidence))
    present = set(np.unique(sweep.labels).tolist())
    if sweep.n < FEW:
        low, high = summary.interval(int(sweep.robust.sum()), sweep.n)
        text = (
            f"Only {words.plural(sweep.n, 'example')}: the 95 % interval under {sweep.threat} is "
            f"{words.interval(low, high)} for {sweep.model}. Audit at least {FEW}, better 1,000 --examples."
        )
        yield doubt("warning" if sweep.n < FEW / 4 else "note", text)
    if len(present) == 1 and sweep.n > 1:
        (label,) = present
        name = evidence.classes[label] if 0 <= label < len(evidence.classes) else str(label)
        text = (
            f"All {words.plural(sweep.n, 'example')} are of one class ({name}), so nothing is known about the others. "
            "Take the examples from the whole data set; it may be sorted by class."
        )
        yield doubt("warning", text)
        return
    missing = [name for label, name in enumerate(evidence.classes) if label not in present]
    if missing:
        text = (
            f"{words.of(len(missing), len(evidence.classes))} classes have no example here "
            f"({words.listed(missing)}), so nothing is known about them. Audit more --examples."
        )
        yield doubt("note", text)
