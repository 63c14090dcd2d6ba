"""What a cheaper form of a model gains on this machine, where every success is asked of the model itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

import networks
import numpy as np
import pytest
import torch
from race import Race, quartiles
from record import Book
from torch import Tensor, nn

import attacks

BAR = 1.25


def half_sure(batch: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A ResNet-18 for 32 x 32 pixels, untrained, and inputs labelled as it answers: some fall within eps."""
    net = networks.resnet18_for_32x32()
    x, _ = networks.images(batch, (3, 32, 32))
    with torch.no_grad():
        net.fc.bias.zero_()  # type: ignore[union-attr]
        return net, x, net(x).argmax(1)


@pytest.mark.parametrize("name", ["apgd", "square"])
def test_the_fastest_form_gains_and_breaks_as_much(name, benchmark, book: Book, repeats: int):
    net, x, labels = half_sure(16)
    form = attacks.fastest_form(net, x)
    attack = attacks.CATALOG[name](**({"steps": 20} if name == "apgd" else {"queries": 60}))
    eps = {"apgd": 0.06, "square": 0.08}[name]
    goal, threat = attacks.Goal(labels), attacks.linf(eps)
    plain, fast = attacks.Victim(net), attacks.Victim.in_form(net, form)
    results = {who: attacks.run(attack, victim, x, goal, threat) for who, victim in (("plain", plain), ("fast", fast))}
    race = Race(
        {
            "plain": lambda: attacks.run(attack, plain, x, goal, threat),
            "fast": lambda: attacks.run(attack, fast, x, goal, threat),
        }
    )
    race.warm_up()
    benchmark.pedantic(race.lap, rounds=max(3, repeats // 3), iterations=1)
    low, middle, high = quartiles(race.times("plain") / race.times("fast"))
    with torch.no_grad():
        borne_out = net(results["fast"].x_adv).argmax(1) != labels
    assert torch.equal(borne_out, results["fast"].fooled)
    same = (results["fast"].fooled == results["plain"].fooled).double().mean().item()
    book.add(
        suite="forms",
        measured=f"{name} linf:{eps}, ResNet-18, 16 x 3 x 32 x 32, {form}",
        unit="s",
        repeats=len(race.times("plain")),
        ours=race.median("fast"),
        reference=race.median("plain"),
        reference_is="the same attack on the model as it is, over ours",
        ratio=middle,
        ratio_low=low,
        ratio_high=high,
        bar=BAR,
        note=f"fooled {int(results['fast'].fooled.sum())} and {int(results['plain'].fooled.sum())} of {len(x)}; "
        f"the same verdict in {same:.1%}",
    )
    assert 0 < results["plain"].fooled.sum() < len(x)
    assert same >= 0.95
    assert middle >= BAR


def test_a_fast_audit_gains_and_comes_to_nearly_the_same_accuracy(tmp_path: Path, book: Book):
    """Whole commands, start and end included, each on one thread."""
    _, x, labels = half_sure(96)
    np.savez(tmp_path / "data.npz", x=x.numpy(), y=labels.numpy())
    here, asked = Path(__file__).parent, ["--no-curves", "--attack", "pgd", "--attack", "apgd"]
    (tmp_path / "net.py").write_text(
        f"import sys\nsys.path.insert(0, {str(here)!r})\nfrom test_forms import half_sure\n\n\n"
        "def make():\n    return half_sure(96)[0]\n"
    )

    def audit(name: str, *more: str) -> float:
        command = [sys.executable, "-c", "from reports.cli import main; main()", "audit", "--model", "net.py:make"]
        rest = ["--data", "data.npz", "--threat", "linf:0.06", *asked, "--out", name, *more]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(here.parents[1])}
        subprocess.run([*command, *rest], cwd=tmp_path, env=environment, check=True, capture_output=True)
        (model,) = json.loads((tmp_path / name / "audit.json").read_text())["models"].values()
        return model["threats"]["linf:0.06"]["robust_accuracy"]

    found: dict[str, list[float]] = {"plain": [], "fast": []}
    race = Race(
        {
            "plain": lambda: found["plain"].append(audit("plain", "--overwrite")),
            "fast": lambda: found["fast"].append(audit("fast", "--overwrite", "--fast", "auto")),
        }
    )
    race.lap()
    ratio = float((race.times("plain") / race.times("fast"))[0])
    book.add(
        suite="forms",
        measured=f"audit --fast auto, {' '.join(asked)}, linf:0.06, ResNet-18, 96 x 3 x 32 x 32",
        unit="s",
        repeats=1,
        ours=race.median("fast"),
        reference=race.median("plain"),
        reference_is="the same command without --fast",
        ratio=ratio,
        bar=BAR,
        note=f"robust accuracy {found['fast'][0]:.4f} and {found['plain'][0]:.4f}; one thread; start and end included",
    )
    assert abs(found["fast"][0] - found["plain"][0]) <= 0.02  # rows at the edge of falling differ
    assert ratio >= BAR
