"""Small runs of `advgan train perturber`, for tests of their pages; any names may stand in them."""

import contextlib
import json
from pathlib import Path

import numpy as np
import torch

from reports import cli
from reports.perturbing import page
from reports.sources import models
from reports.training.saved import SavedRun
from tests.reports.synthetic import examples

NET = """
import torch
from torch import nn

def make(seed=0):
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear({numbers}, {classes}))

def other():
    return make(1)
"""
FEW = ("--width", "8", "--depth", "1", "--batch", "16", "--steps", "40", "--every", "10")


def write(
    folder: Path,
    *options: str,
    classes: tuple[str, ...],
    shape: tuple[int, ...] = (3, 12, 12),
    victim: str = "net",
    warning: str = "",
) -> SavedRun:
    """Against a linear classifier, whose own answers are the labels; and shown to another one."""
    net = folder.parent / f"{folder.name}_net.py"
    net.write_text(NET.format(numbers=np.prod(shape), classes=len(classes)))
    x, _ = examples(200, shape, len(classes), seed=1)
    (made,) = models.load(f"{net}:make").values()
    labels = made(torch.from_numpy(x)).argmax(1).numpy()
    np.savez(folder.with_suffix(".npz"), x=x, y=labels)
    asked = ("--model", f"{net}:make", "--transfer", f"{net}:other", "--data", f"{folder.with_suffix('.npz')}")
    with contextlib.suppress(SystemExit):
        cli.main(["train", "perturber", *asked, "--threat", "linf:0.1", *FEW, *options, "--out", str(folder)])
    _rename(folder, classes, victim, warning)
    (folder / "report.html").write_text(page.page(SavedRun.load(folder)), encoding="utf-8")
    return SavedRun.load(folder)


def _rename(folder: Path, classes: tuple[str, ...], victim: str, warning: str) -> None:
    about, run = (json.loads((folder / name).read_text()) for name in ("about.json", "run.json"))
    about["data"]["classes"] = list(classes)
    about["victims"] = {victim: next(iter(about["victims"].values()))}
    for row, name in zip(about["results"]["by_class"], classes, strict=False):
        row["name"] = name
    about["results"]["transfer"]["models"] = [victim, "other"]
    if warning:
        run["warnings"].append({"kind": "one_mode", "step": 20, "what": warning, "remedy": warning})
    (folder / "about.json").write_text(json.dumps(about))
    (folder / "run.json").write_text(json.dumps(run))
