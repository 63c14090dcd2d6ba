"""The tables of attacks in README.md and docs/api.md, made from the catalogue: `python docs/tables.py` writes them.

tests/test_docs.py holds the pages to them.
"""

import inspect
import re
import sys
from pathlib import Path

import torch
from torch import nn

import attacks
from attacks import CATALOG, Attack, card_of
from attacks.combine import EachTarget, Restarts

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
API = ROOT / "docs" / "api.md"
GIVEN = {"transferred": lambda: {"surrogate": Unmoved()}}  # options that have no default


class Unmoved(nn.Module):
    """Ten classes, gradients, and always class 0."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * 16 * 16, 10)
        self.layer.bias.data[0] = 1000.0

    def forward(self, x):
        return self.layer(x.flatten(1))


def made(name: str) -> Attack:
    return CATALOG[name](**GIVEN.get(name, dict)())


def readme_rows() -> list[str]:
    """| attack | sees | norms | goal | paper | passes by default |"""
    return [_readme_row(name, made(name)) for name in CATALOG]


def api_rows() -> list[str]:
    """| name | makes | options and defaults |"""
    return [f"| `{name}` | {_makes(name)} | `{_options(name)}` |" for name in CATALOG]


def _readme_row(name: str, attack: Attack) -> str:
    card = card_of(attack)
    norms = " ".join(card.norms) if card.eps != "inf" else "without a limit"
    goal = "any, target" if card.targeted else "any"
    cells = [f"`{name}`", f"{card.access.name.lower().removesuffix('s')}s", norms, goal, _papers(name), _passes(attack)]
    return f"| {' | '.join(cells)} |"


def _papers(name: str) -> str:
    made_by = CATALOG[name]
    texts = [inspect.getdoc(made_by), inspect.getmodule(type(made(name))).__doc__]  # type: ignore[union-attr]
    found = [re.findall(r"\b\d{4}\.\d{4,5}\b", text or "") for text in texts]
    papers = list(dict.fromkeys(found[0] or found[1]))
    return f"arXiv {', '.join(papers)}" if papers else "a baseline"


def _passes(attack: Attack) -> str:
    """Forwards and gradients that a row costs that nothing fools, under the attack's first norm."""
    card = card_of(attack)
    x = torch.full((1, 3, 16, 16), 0.5)
    threat = f"{card.norms[0]}:{'inf' if card.eps == 'inf' else 0.1 if card.norms[0] == 'linf' else 8}"
    result = attacks.run(attack, Unmoved(), x, torch.zeros(1, dtype=torch.int64), threat)
    assert not result.fooled
    return f"{int(result.queries)} / {int(result.backwards)}"


def _makes(name: str) -> str:
    attack = made(name)
    if isinstance(attack, EachTarget | Restarts):
        inner = attack.attack
        return f"`{type(attack).__name__}` of `{type(inner).__name__}`"
    return f"`{type(attack).__name__}`"


def _options(name: str) -> str:
    parameters = inspect.signature(CATALOG[name]).parameters.values()
    texts = [p.name if p.default is p.empty else f"{p.name}={_default(p.default)}" for p in parameters]
    return ", ".join(texts)


def _default(value: object) -> str:
    return repr(value).replace("'", '"')


def written(page: Path, rows: list[str]) -> str:
    """The page with its table's rows replaced: the block of lines that begins with the first attack's."""
    lines = page.read_text(encoding="utf-8").splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith(f"| `{next(iter(CATALOG))}` |"))
    last = next(i for i in range(first, len(lines)) if not lines[i].startswith("|"))
    return "\n".join([*lines[:first], *rows, *lines[last:]]) + "\n"


if __name__ == "__main__":
    for page, rows in ((README, readme_rows()), (API, api_rows())):
        page.write_text(written(page, rows), encoding="utf-8")
        sys.stdout.write(f"{page.name}: {len(rows)} attacks\n")
