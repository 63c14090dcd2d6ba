"""Does the command take every attack of the catalogue by its name, and is what it writes right about it?"""

from pathlib import Path

import pytest
import torch
from short import SHORT
from torch import nn

from attacks import CATALOG, card_of
from reports.audit import audit
from reports.sources.data import from_arrays

EPS = {"linf": "0.1", "l2": "0.8", "l1": "4", "l0": "6"}


def model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4))
    return net.eval()


def text(name: str) -> str:
    """As it is typed after --attack."""
    if name == "transferred":
        return f"transferred:surrogate={__file__}:model"
    options = ",".join(f"{option}={value}" for option, value in SHORT.get(name, {}).items())
    return f"{name}:{options}" if options else name


@pytest.mark.parametrize("name", CATALOG)
def test_each_attack_is_audited_by_its_name(name: str, tmp_path: Path):
    net = model()
    x = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = net(x).argmax(1)
    card = card_of(CATALOG[name](**({"surrogate": net} if name == "transferred" else SHORT.get(name, {}))))
    threat = "linf:inf" if card.eps == "inf" else f"{card.norms[0]}:{EPS[card.norms[0]]}"
    done = audit(
        {"toy": net}, from_arrays(x, labels, name="toy"), [threat], [text(name)], tmp_path / "out", curves=False
    )
    (told,) = done.about["models"]["toy"]["threats"][threat]["attacks"].values()
    fooled, queries = (done.rows[column].to_numpy() for column in ("fooled", "queries"))
    assert len(fooled) == 8
    assert told["robust_accuracy"] == 1 - fooled.mean()
    assert told["queries"] == pytest.approx(queries.mean())
    assert (queries >= 1).all()
    if name not in ("uniform_noise", "gaussian_noise", "salt_and_pepper", "blur", "contrast"):
        assert fooled.any()
