"""Audits of models that do not exist, with numbers that look like those of models that do."""

from pathlib import Path

import numpy as np

from attacks.doubts import Doubt
from attacks.verdict import Stage
from reports import words
from reports.record import Audit
from reports.writer import Writer

KINDS = {  # attack: share of the breakable examples that it finds, forwards, backwards
    "uniform_noise": (0.03, 1, 0),
    "gaussian_noise": (0.04, 1, 0),
    "fgsm": (0.72, 2, 1),
    "pgd": (0.96, 41, 40),
    "mi_fgsm": (0.93, 11, 10),
    "apgd": (0.995, 101, 100),
    "apgd_t": (0.99, 901, 900),
    "square": (0.9, 500, 0),
    "verdict": (1.0, 60, 45),
}
CLASSES = [str(digit) for digit in range(10)]


def examples(n: int, shape: tuple[int, ...], classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Blobs, one place per class: x [n, ...] float32 in [0, 1], labels [n] int64."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, n)
    if len(shape) < 2:
        return random.random((n, *shape), dtype=np.float32), labels
    height, width = shape[-2:]
    rows, columns = np.mgrid[0:height, 0:width]
    angle = labels * 2 * np.pi / classes
    y = (height / 2 + height / 4 * np.sin(angle) + random.normal(0, 0.5, n))[:, None, None]
    x = (width / 2 + width / 4 * np.cos(angle) + random.normal(0, 0.5, n))[:, None, None]
    blob = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (height * width / 24))
    if len(shape) == 3:
        tint = 0.4 + 0.6 * random.random((n, shape[0], 1, 1)) if shape[0] == 3 else np.ones((n, 1, 1, 1))
        blob = blob[:, None] * tint
    return np.round(np.clip(blob, 0, 1) * 255).astype(np.float32) / np.float32(255), labels


def write(
    folder: Path,
    *,
    models: tuple[str, ...] = ("standard", "robust"),
    threats: tuple[str, ...] = ("linf:0.1", "linf:0.2", "l2:0.5", "l2:1.0"),
    attacks: tuple[str, ...] = ("uniform_noise", "fgsm", "pgd", "apgd", "square"),
    n: int = 600,
    shape: tuple[int, ...] = (1, 8, 8),
    classes: list[str] | None = None,
    labels: np.ndarray | None = None,
    batch_size: int = 256,
    curves: bool = True,
    strength: float | None = None,
    accuracy: float = 0.98,
    gallery: int = 2,
    overwrite: bool = False,
    found: dict[str, float] | None = None,
    endless: float = 0.0,
    doubted: float = 0.0,
    certify: int = 0,
    effort: str = "standard",
) -> Audit:
    """An audit through `Writer`. `doubted`: share of the examples that the verdict, if it is run, has a doubt about.

    `strength`: 0 breaks nothing, inf everything; None gives each model its own.
    """
    names = CLASSES if classes is None else classes
    x, drawn = examples(n, shape, len(names))
    labels = drawn if labels is None else labels
    shares = {attack: (found or {}).get(attack, KINDS[attack][0]) for attack in attacks}
    about = {
        "configuration": {
            "models": {name: f"digits:{name}" for name in models},
            "data": "digits",
            "examples": n,
            "threats": list(threats),
            "attacks": {
                attack: {"class": "Verdict", "effort": effort}
                if attack == "verdict"
                else {"class": attack.upper(), "steps": KINDS[attack][2]}
                for attack in attacks
            },
            "seed": 0,
            "device": "cpu",
            "batch_size": 256,
            "curves": curves,
            "certify": certify,
        },
        "versions": {"advgan": "0.1.0", "python": "3.11.7", "torch": "2.15.0", "numpy": "2.4.6"},
        "data": {"n": n, "shape": list(shape), "classes": names, "bounds": [0.0, 1.0], "sha256": "ab" * 32},
        "models": {name: {"sha256": "cd" * 32, "parameters": 21_834} for name in models},
        "noise": {name: _noise(threats) for name in models} if curves else {},
    }
    with Writer(folder, overwrite=overwrite) as writer:
        for start in range(0, n, batch_size):
            batch = slice(start, min(n, start + batch_size))
            for rank, model in enumerate(models):
                truth = _Truth(rank, n, len(names), labels, strength, accuracy, endless, doubted)
                for threat in threats:
                    for attack in attacks:
                        _add(writer, truth, batch, x, labels, (model, threat, attack), shares[attack], gallery)
                    _add_certificates(writer, truth, batch, (model, threat), certify)
                for norm in dict.fromkeys(words.split(threat)[0] for threat in threats) if curves else ():
                    _add_curve(writer, truth, batch, (model, norm, "fmn"))
        return writer.finish(about)


def _noise(threats: tuple[str, ...]) -> dict:
    told = {"examples": 31, "rays": 124, "crossed": 117, "median": 3.06, "attack_median": 0.51, "forwards": 3718}
    return {norm: told for norm in dict.fromkeys(words.split(threat)[0] for threat in threats) if norm != "l0"}


class _Truth:
    """What holds of one model: which examples it gets right, and how large a perturbation each stands."""

    def __init__(self, rank, n, classes, labels, strength, accuracy, endless, doubted):
        random = np.random.default_rng(100 + rank)
        self.correct = random.random(n) < accuracy - 0.01 * rank
        self.unit = random.lognormal(0, 0.45, n) * (0.55 + 0.75 * rank)
        if strength is not None:
            self.unit = np.full(n, np.inf) if strength == 0 else np.full(n, 1e-6)
        self.endless = random.random(n) < endless
        self.wrong = (labels + random.integers(1, max(2, classes), n)) % max(2, classes)
        self.luck = random.random((32, n))
        self.doubts = int(Doubt.STILL_FINDING) * (random.random(n) < doubted)

    def smallest(self, norm: str) -> np.ndarray:
        return np.asarray(self.unit * {"linf": 0.1, "l2": 0.7, "l1": 5.0, "l0": 6.0}[norm])


def _add(writer, truth, batch, x, labels, key, share, gallery):
    model, threat, attack = key
    norm, eps = words.split(threat)[0], words.eps(threat)
    luck = truth.luck[list(KINDS).index(attack)]
    fooled = ~truth.correct | ((truth.smallest(norm) <= eps) & (luck <= share))
    random = np.random.default_rng(7)
    signs = np.sign(random.standard_normal(x.shape)).astype(np.float32)
    step = eps if norm == "linf" else eps / np.sqrt(np.prod(x.shape[1:])) if norm == "l2" else 0.1
    hit = (fooled & truth.correct).reshape(-1, *[1] * (x.ndim - 1))
    x_adv = np.where(hit, np.clip(x + signs * np.float32(step), 0, 1), x).astype(np.float32)
    clean = np.where(truth.correct, labels, truth.wrong)
    adversarial = np.where(fooled, truth.wrong, labels)
    _, queries, backwards = KINDS[attack]
    n = batch.stop - batch.start
    writer.add(
        model,
        threat,
        attack,
        ids=np.arange(len(x))[batch],
        labels=labels[batch],
        clean_prediction=clean[batch],
        correct=truth.correct[batch],
        fooled=fooled[batch],
        adversarial_prediction=adversarial[batch],
        size=np.where(fooled, np.where(truth.correct, eps * 0.999, 0.0), np.inf)[batch],
        margin=np.where(fooled, 0.7, -1.3)[batch],
        queries=np.where(fooled, max(1, queries // 3), queries)[batch],
        backwards=np.where(fooled, backwards // 3, backwards)[batch],
        passes=np.where(fooled, np.where(truth.correct, max(1, queries // 3) + backwards // 3, 1), -1)[batch],
        x_adv=x_adv[batch],
        seconds=0.01 * queries * n / 256,
        **(_seen(truth, fooled, batch) if attack == "verdict" else {}),
    )
    chosen = np.flatnonzero(fooled & truth.correct)[:gallery] if attack in ("apgd", "fgsm") else ()
    for k in chosen:
        if batch.start <= k < batch.stop:
            writer.add_to_gallery(
                x=x[k],
                x_adv=x_adv[k],
                model=model,
                threat=threat,
                attack=attack,
                id=int(k),
                label=int(labels[k]),
                clean_prediction=int(clean[k]),
                clean_confidence=0.9 + 0.0999999 * float(luck[k]),
                adversarial_prediction=int(adversarial[k]),
                adversarial_confidence=0.5 + 0.49999 * float(truth.luck[-1][k]),
            )


def _seen(truth, fooled, batch):
    look = fooled & (truth.luck[-2] < 0.9)
    stage = np.where(truth.correct, np.where(look, Stage.LOOK, Stage.ROUNDS), Stage.CLEAN)
    gap = np.where(fooled, 0.0, truth.unit)
    return {"stage": stage[batch], "doubts": truth.doubts[batch], "gap": gap[batch]}


def _add_certificates(writer, truth, batch, key, certify):
    """Certified is what stands thrice the eps."""
    ids = np.arange(len(truth.correct))[batch]
    ids = ids[ids < certify]
    if len(ids):
        norm, eps = words.split(key[1])[0], words.eps(key[1])
        room = np.where(truth.correct, truth.smallest(norm) - 3 * eps, np.nan)[ids]
        writer.add_certificates(*key, ids=ids, margin=room, certified=room > 0, seconds=0.5)


def _add_curve(writer, truth, batch, key):
    size = np.where(truth.correct, np.where(truth.endless, np.inf, truth.smallest(key[1])), 0.0)
    n = batch.stop - batch.start
    writer.add_curve(
        *key,
        ids=np.arange(len(size))[batch],
        correct=truth.correct[batch],
        size=size[batch],
        queries=np.full(n, 101),
        backwards=np.full(n, 100),
        seconds=0.5,
    )
