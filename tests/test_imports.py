"""Does the house stand as drawn: does a file import only what lies below it, and is what was promised on the face?"""

import ast
import importlib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import attacks

ROOT = Path(__file__).parents[1]
FLOORS = [  # from the ground up; rooms on one floor do not import each other
    {"attacks.errors"},
    {"attacks.kernels"},
    {"attacks.columns", "attacks.norms", "attacks.noise", "attacks.images", "attacks.hyperplanes"},
    {"attacks.threat_set"},
    {"attacks.threat"},
    {"attacks.losses", "attacks.rows", "attacks.models", "attacks.bounds", "attacks.passes"},
    {"attacks.victim"},
    {"attacks.card", "attacks.checks", "attacks.trace", "attacks.costs"},
    {"attacks.result"},
    {"attacks.judging"},
    {"attacks.loop", "attacks.preflight", "attacks.doubts"},
    {"attacks.gradient", "attacks.score", "attacks.decision", "attacks.spatial", "attacks.repair"},
    {"attacks.combine", "attacks.warm", "attacks.prospects", "attacks.patchwork", "attacks.ascents"},
    {"attacks.autoattack", "attacks.verdict"},
    {"attacks.catalog"},
    {"attacks.api"},
    {"attacks.certify", "attacks.smoothing", "attacks.probe", "attacks.adapters"},
    {"attacks"},  # the public face
    {"advgan.objectives", "advgan.penalties", "advgan.networks", "advgan.schedules", "advgan.processes"},
    {"advgan.bounding", "advgan.fooling"},
    {"advgan.mixtures", "advgan.measures"},
    {"advgan.recipe", "advgan.health", "advgan.train", "advgan.theory", "advgan.stopping"},
    {"advgan.recipes", "advgan.perturbing", "advgan.perturber"},
    {"advgan.checkpoint", "advgan.samples"},
    {"advgan.run", "advgan.gaussian"},
    {"advgan.table"},
    {"advgan.fit", "advgan.sample"},
    {"advgan.success"},
    {"advgan.perturb", "advgan.unrestricted"},
    {"advgan.lessons"},
    {"advgan.distill"},
    {"advgan.sequences.vocabulary"},
    {"advgan.sequences.model", "advgan.sequences.text", "advgan.sequences.bleu"},
    {"advgan.sequences.lstm", "advgan.sequences.memory"},
    {"advgan.sequences.sampling", "advgan.sequences.oracle", "advgan.sequences.loop", "advgan.sequences.rollouts"},
    {"advgan.sequences.generators", "advgan.sequences.critic"},
    {"advgan.sequences.measures", "advgan.sequences.likelihood"},
    {"advgan.sequences.lessons", "advgan.sequences.beginning", "advgan.sequences.prose"},
    {"advgan.sequences.policy", "advgan.sequences.gumbel"},
    {"advgan.sequences"},
    {"advgan"},
    {"reports.words", "reports.memory", "reports.zoo", "reports.terminal", "reports.devices", "reports.resume"},
    {"reports.reading"},
    {"reports.record", "reports.spool"},
    {"reports.answers", "reports.patience", "reports.replacing"},
    {"reports.sources"},
    {"reports.provenance"},
    {"reports.generated"},
    {"reports.options"},
    {"reports.summary", "reports.reproduce"},
    {"reports.verdicts"},
    {"reports.doubts", "reports.figures"},
    {"reports.pages", "reports.text", "reports.game"},
    {"reports.doctor"},
    {"reports.writer"},  # what it writes last is the report itself
    {"reports.gallery", "reports.noise", "reports.comparing", "reports.overlap", "reports.plan", "reports.piece"},
    {"reports.unsure", "reports.columns", "reports.unfinished", "reports.assembled"},
    {"reports.work"},
    {"reports.fast"},
    {"reports.engines"},
    {"reports.cluster"},
    {"reports.audit"},
    {"reports.training", "reports.probing", "reports.dataset"},
    {"reports.perturbing", "reports.sequencing"},
    {"reports.told"},
    {"reports.commands"},
    {"reports.cli"},
    {"reports"},
]
FILES = sorted(file for package in ("attacks", "advgan", "reports") for file in (ROOT / package).rglob("*.py"))
ROOMS = ("gradient", "score", "decision", "spatial")
FIXED = ["run", "Result", "Victim", "ThreatModel", "Goal", "linf", "l2", "l1", "l0", "CATALOG"]
FIXED_ATTACKS = ["fgsm", "bim", "pgd", "mi_fgsm", "uniform_noise", "gaussian_noise", "apgd", "apgd_t", "fmn", "square"]

each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))


def named(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room(module: str) -> tuple[int, str] | None:
    """(floor, room) of the longest name in FLOORS that begins `module`; None for other people's modules."""
    rooms = [(floor, name) for floor, names in enumerate(FLOORS) for name in names]
    return max((r for r in rooms if f"{module}.".startswith(f"{r[1]}.")), key=lambda r: len(r[1]), default=None)


def running(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below, but for what only a type checker reads."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from running(child)


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of each import in a file, those inside functions too; `from .. import x` counts as that x."""
    package = file.relative_to(ROOT).parent.parts
    for node in running(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            stem = ".".join((*above, *filter(None, [node.module])))
            yield from ((node.lineno, f"{stem}.{alias.name}") for alias in node.names)


def file_of(module: str) -> str | None:
    """The file, as a module's name, that `module` or the name at its end is read from; None for other people's."""
    known = {named(file) for file in FILES}
    while module and module not in known:
        module = module.rpartition(".")[0]
    return module or None


@each_file
def test_every_file_has_a_room_of_its_own_package(file):
    here = room(named(file))
    assert here is not None
    face = here[1] in ("attacks", "advgan", "reports")
    assert not face or file.name == "__init__.py", f"{named(file)} is in no room: draw it in FLOORS"


@each_file
def test_imports_go_down(file):
    here = room(named(file))
    assert here is not None
    for line, module in imports(file):
        there = room(module)
        allowed = there is None or there[1] == here[1] or there[0] < here[0]
        assert allowed, f"{file.relative_to(ROOT)}:{line} imports {module}, which does not lie below it"


def test_no_file_reaches_itself_through_its_imports():
    """Inside a room too. A name that a package's face hands on counts as an import of that package."""
    graph = {named(file): {file_of(module) for _, module in imports(file)} - {None, named(file)} for file in FILES}
    assert graph["attacks.api"] >= {"attacks.loop", "attacks.threat"}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the files


@pytest.mark.parametrize("name", ROOMS)
def test_no_attack_imports_a_kernel(name):
    files = sorted((ROOT / "attacks" / name).glob("*.py"))
    assert len(files) > 1
    for file in files:
        assert not [module for _, module in imports(file) if module.startswith("attacks.kernels")], file


@each_file
def test_a_file_begins_with_the_question_it_answers(file):
    tree = ast.parse(file.read_text())
    assert not tree.body or ast.get_docstring(tree), f"{named(file)} does not say what it is for"


def test_every_name_of_the_public_face_is_there():
    assert [name for name in attacks.__all__ if not hasattr(attacks, name)] == []
    assert len(set(attacks.__all__)) == len(attacks.__all__)


def test_the_public_face_is_sorted():
    """As ruff sorts it: constants, classes, functions."""
    kind = {name: 0 if name.isupper() else 1 if name[0].isupper() else 2 for name in attacks.__all__}
    assert attacks.__all__ == sorted(attacks.__all__, key=lambda name: (kind[name], name))


def test_the_fixed_names_are_there():
    assert set(FIXED) <= set(attacks.__all__)
    assert set(FIXED_ATTACKS) <= set(attacks.CATALOG)
    assert callable(attacks.run)  # the function, and no module of that name
    assert importlib.import_module("attacks.errors").InputError is attacks.InputError


def test_each_module_of_the_library_imports_by_itself():
    for file in FILES:
        if "triton" not in file.name and file.parts[-2] in ("attacks", "advgan", *ROOMS):
            importlib.import_module(named(file))
