"""Whether README.md and docs/api.md name everything, say what is so, and hold code that runs."""

import re
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest
import tables
import torch
import typer
from short import SHORT

import attacks
from advgan import objectives, penalties, theory
from attacks import CATALOG, Access, Goal, InputError, Victim, losses, models, probe
from attacks.norms import NORMS
from reports import cli
from reports.sources.forms import DATA, MODELS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


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


def test_every_name_of_the_probe_is_in_the_api_page():
    section = API.partition("## Probing the boundary")[2].partition("\n## ")[0]
    named = [f"attacks.probe.{name}" for name in probe.__all__] + [
        f"`{n}(" for n in public(probe.directions) if n.islower()
    ]
    assert [name for name in named if name not in section] == []
    columns = [
        field.name for kind in (probe.Distances, probe.Geometry, probe.Plane, probe.Walk) for field in fields(kind)
    ]
    assert [name for name in columns if f"`{name}" not in section] == []


def test_every_objective_penalty_and_piece_of_theory_is_in_the_api_page():
    modules = (objectives, penalties, theory)
    named = [f"{module.__name__.split('.')[1]}.{name}" for module in modules for name in public(module)]
    assert {"objectives.OBJECTIVES", "penalties.R1", "theory.KnownGame"} <= set(named)
    section = API.partition("## Objectives, penalties and theory")[2].partition("\n## ")[0]
    inner = {"objectives.Objective", "penalties.Penalty", "theory.Estimate", "theory.LIMIT", "theory.PIECES"}
    inner |= {"theory.PRECISION"}
    assert [name for name in named if name not in section and name not in inner] == []


def test_every_option_of_the_command_is_in_the_api_page():
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    groups = {name: commands[name].commands for name in ("train", "dataset")}
    commands |= {f"{group} {name}": command for group, inner in groups.items() for name, command in inner.items()}
    for name, known in {
        "audit": "--model",
        "doctor": "--model",
        "train gan": "--resume",
        "train perturber": "--transfer",
        "train sequence": "--rollouts",
        "sample": "--class",
        "show": "--html",
        "probe": "--walk",
        "dataset": "--pairs",
        "dataset verify": "--data",
    }.items():
        section = API.partition(f"### `advgan {name}")[2].partition("###")[0]
        params = [option for option in commands[name].params if option.param_type_name == "option"]
        options = [text for option in params for text in (*option.opts, *option.secondary_opts)]
        assert known in options
        assert [text for text in options if f"`{text}`" not in section] == []


def test_every_finding_of_the_preflight_is_in_the_api_page():
    files = (ROOT / "attacks" / "checks").glob("*.py")
    codes = {code for file in files for code in re.findall(r'Finding\(\s*"(\w+)"', file.read_text(encoding="utf-8"))}
    assert "one_logit" in codes
    section = API.partition("## Before an attack")[2].partition("\n## ")[0]
    assert [code for code in codes if code not in section] == []


def test_the_readmes_table_says_what_each_attack_sees_knows_and_costs():
    """`python docs/tables.py` writes it."""
    assert [row for row in tables.readme_rows() if row not in README.splitlines()] == []
    assert tables.written(tables.README, tables.readme_rows()) == README


def test_the_api_page_says_each_attacks_options_and_defaults():
    """`python docs/tables.py` writes it."""
    assert [row for row in tables.api_rows() if row not in API.splitlines()] == []
    assert tables.written(tables.API, tables.api_rows()) == API


@pytest.mark.parametrize("name", CATALOG)
def test_an_attack_refuses_what_its_card_does_not_name_and_takes_what_it_does(name):
    options = {"surrogate": tables.Unmoved()} if name == "transferred" else SHORT.get(name, {})
    attack = CATALOG[name](**options)
    card = attacks.card_of(attack)
    x, labels = torch.rand(1, 3, 16, 16), torch.zeros(1, dtype=torch.int64)

    def runs(access: Access = Access.GRADIENT, norm: str = card.norms[0], targeted: bool = False) -> bool:
        eps = "inf" if card.eps == "inf" else "1"
        try:
            goal = Goal(labels + 1 if targeted else labels, targeted)
            attacks.run(attack, Victim(tables.Unmoved(), access), x, goal, f"{norm}:{eps}")
        except InputError:
            return False
        return True

    assert [access for access in Access if runs(access)] == [access for access in Access if access >= card.access]
    assert [norm for norm in NORMS if runs(norm=norm)] == [norm for norm in NORMS if norm in card.norms]
    assert runs(targeted=True) == card.targeted


@pytest.mark.parametrize("text", [README, API], ids=["README.md", "docs/api.md"])
def test_the_python_blocks_run_one_after_another(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    code = blocks(text, "python")
    assert code
    with torch.random.fork_rng():
        for block in code:
            exec(compile(block, "block of the page", "exec"), names)


def test_every_form_of_models_and_data_is_in_the_readme_and_the_api_page():
    named = [form.text.partition("[")[0] for form in (*MODELS, *DATA)]
    assert [text for text in named if f"`{text}" not in README] == []
    section = API.partition("### `advgan audit`")[2].partition("###")[0]
    assert [text for text in named if not text.startswith("http:") and text not in section] == []


def test_the_readme_opens_with_its_two_commands_and_ci_runs_the_second():
    audit, tests = (block.strip() for block in blocks(README, "sh")[:2])
    assert audit == "python -m pip install . && advgan audit"
    assert tests == 'python -m pip install -e ".[test]" && python -m pytest -n auto --dist worksteal'
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    said = [re.sub(r" --(quiet|disable-pip-version-check)\b", "", line) for line in run.splitlines()]
    assert tests in said


PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/api.md",
    "docs/http.md",
    "docs/scale.md",
    "docs/adversarial_training.md",
]


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_is_there(page):
    named = re.findall(r"`((?:attacks|docs|examples|reports|tests)/[\w./]*|\.ci/run)`", (ROOT / page).read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []
