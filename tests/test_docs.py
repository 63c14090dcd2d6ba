"""Whether README.md and docs/api.md name everything, say what is so, and hold code that runs."""

import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch
import typer
from torch import nn

import attacks
from attacks import CATALOG, Access, Goal, InputError, Victim, losses, models
from reports import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")

ONE_STEP = {
    "apgd": {"steps": 1},
    "apgd_t": {"steps": 1, "targets": 1},
    "pgd_restarts": {"times": 1, "steps": 1},
    "fmn": {"steps": 1},
    "square": {"queries": 2},
}


class Unmoved(nn.Module):
    """Ten classes, gradients, and always class 0."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)
        self.layer.bias.data[0] = 1000.0

    def forward(self, x):
        return self.layer(x.flatten(1))


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def attack_table() -> dict[str, list[str]]:
    """name -> what it sees, its norms, its goals, its paper, its passes."""
    section = README.partition("## Attacks")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:3] == "| `"]
    return {cells[0].strip("`"): cells[1:] for cells in rows}


def public(module: ModuleType) -> list[str]:
    """The functions, classes and tables that a module defines itself."""
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
    return [name for name in own + [n for n in vars(module) if n.isupper()] if not name.startswith("_")]


def test_every_public_name_of_attacks_is_in_the_api_page():
    assert [name for name in attacks.__all__ if f"attacks.{name}" not in API] == []


def test_every_loss_and_every_module_to_put_round_a_model_is_in_the_api_page():
    named = [f"losses.{name}" for name in public(losses)] + [f"models.{name}" for name in public(models)]
    assert "losses.margin" in named
    assert "models.Binary" in named
    assert [name for name in named if name not in API] == []


def test_every_option_of_the_command_is_in_the_api_page():
    command = typer.main.get_command(cli.app).commands["audit"]  # type: ignore[attr-defined]
    options = [text for option in command.params for text in (*option.opts, *option.secondary_opts)]
    assert "--fail-under" in options
    assert [text for text in options if f"`{text}`" not in API] == []


def test_the_attack_table_and_the_api_page_name_the_catalog():
    assert list(attack_table()) == list(CATALOG)
    assert [name for name in CATALOG if f"| `{name}` |" not in API] == []


@pytest.mark.parametrize("name", CATALOG)
def test_the_api_page_says_an_attacks_options_and_defaults(name):
    parameters = inspect.signature(CATALOG[name]).parameters.values()
    options = ", ".join(f"{option.name}={option.default!r}" for option in parameters).replace("'", '"')
    (row,) = [line for line in API.splitlines() if line.startswith(f"| `{name}` |")]
    assert row.endswith(f"| `{options}` |")


@pytest.mark.parametrize("name", CATALOG)
def test_the_attack_table_says_what_an_example_costs_that_withstands(name):
    x, labels = torch.rand(1, 1, 8, 8), torch.zeros(1, dtype=torch.int64)
    result = attacks.run(name, Unmoved(), x, labels, "linf:0.1")
    assert not result.fooled
    assert attack_table()[name][4] == f"{int(result.queries)} / {int(result.backwards)}"


@pytest.mark.parametrize("name", CATALOG)
def test_the_attack_table_says_what_an_attack_sees_and_which_norms_and_goals_it_knows(name):
    x, labels = torch.rand(1, 1, 8, 8), torch.zeros(1, dtype=torch.int64)
    attack = CATALOG[name](**ONE_STEP.get(name, {}))

    def runs(access: Access = Access.GRADIENT, norm: str = "linf", targeted: bool = False) -> bool:
        try:
            goal = Goal(labels + 1 if targeted else labels, targeted)
            attacks.run(attack, Victim(Unmoved(), access), x, goal, f"{norm}:1")
        except InputError:
            return False
        return True

    sees, norms, goals = attack_table()[name][:3]
    assert sees == next(f"{access.name.lower().removesuffix('s')}s" for access in Access if runs(access))
    assert norms == " ".join(norm for norm in ("linf", "l2", "l1", "l0") if runs(norm=norm))
    assert goals == ("any, target" if runs(targeted=True) else "any")


@pytest.mark.parametrize("text", [README, API], ids=["README.md", "docs/api.md"])
def test_the_python_blocks_run_one_after_another(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    code = blocks(text, "python")
    assert code
    with torch.random.fork_rng():
        for block in code:
            exec(compile(block, "block of the page", "exec"), names)


def test_the_readme_opens_with_its_two_commands_and_ci_runs_the_second():
    audit, tests = (block.strip() for block in blocks(README, "sh")[:2])
    assert audit == "python -m pip install . && advgan audit"
    assert tests == 'python -m pip install -e ".[test]" && python -m pytest'
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    said = [re.sub(r" --(quiet|disable-pip-version-check)\b", "", line) for line in run.splitlines()]
    assert tests in said


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/api.md"])
def test_every_file_that_a_page_names_is_there(page):
    named = re.findall(r"`((?:attacks|docs|examples|reports|tests)/[\w./]*|\.ci/run)`", (ROOT / page).read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []
