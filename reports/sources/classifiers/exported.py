"""How is a program of torch.export loaded without running code that its file may hide?

PyTorch's own reader unpickles weights, constants and sample inputs where the file says so, looks operators up by
walking attributes of `torch` (which leads to `torch.os.system`), and evaluates shapes as Python. So the archive is
read here first, refused where it holds any of that, and written anew in memory with what is left.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn
from torch.export.pt2_archive._package import load_pt2

from attacks.errors import InputError
from reports.sources.classifiers.torchscript import Program
from reports.sources.limits import unzipped, zipped

DUNDER = r"__i?(?:and|or|xor|lshift|rshift)__"  # the only operators of aten that are called so
ATEN = rf"torch\.ops\.(?:aten|quantized|torchvision)\.(?:(?!__)\w+|{DUNDER})\.(?!__)\w+"
ON_SIZES = "add|sub|mul|truediv|floordiv|mod|pow|neg|pos|abs|getitem|eq|ne|lt|le|gt|ge|and_|or_|not_"
TARGET = re.compile(rf"{ATEN}|_operator\.(?:{ON_SIZES})|math\.(?!_)\w+|torch\.sym_\w+")
PLAIN = re.compile(r"[\w.:-]{0,200}")  # a name, a number, a mode
IDENTIFIER = re.compile(r"[A-Za-z_]\w{0,200}")
SHAPE = re.compile(r"[\w\s+*/(),<>=-]{0,2000}")
WORD = re.compile(r"[A-Za-z_]\w*")
FUNCTIONS = {"FloorDiv", "CeilDiv", "CleanDiv", "Mod", "PythonMod", "ModularIndexing", "Max", "Min", "Eq", "Ne"}
FUNCTIONS |= {"CeilToInt", "FloorToInt", "IntTrueDiv", "ToFloat", "TruncToInt", "PowByNatural", "oo", "int_oo"}
FUNCTIONS |= {"Add", "Mul", "Pow", "Integer", "Rational", "Equality", "Unequality"}
NAME = r"z?[su]f?\d+"
SYMBOL = re.compile(NAME)
SPELLED = re.compile(rf"Symbol\('({NAME})'(?:, \w+=(?:True|False))*\)")
KEPT = ("data/weights/", "data/constants/")
SMALL = ("archive_format", "archive_version", "byteorder", ".data/version", ".format_version")


def load(spec: str, weights: Path | None) -> tuple[str, nn.Module]:
    """`export:FILE`, as torch.export.save wrote it, exported with a dynamic batch size."""
    path = Path(spec.partition(":")[2])
    archive = _rewritten(path, unzipped(path, "file of torch.export"))
    try:
        (program,) = load_pt2(archive).exported_programs.values()
        module = program.module(check_guards=False)
    except Exception as error:  # whatever PyTorch's reader finds wrong with it
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} cannot be loaded ({why}). Export it again with this version of PyTorch.") from error
    return path.stem, Program(module)


def _rewritten(path: Path, files: dict[str, bytes]) -> Any:
    """The archive, less everything that is not needed."""
    stem = next(iter(files), "").partition("/")[0]
    inner = {name.removeprefix(f"{stem}/"): content for name, content in files.items()}
    models = [name for name in inner if re.fullmatch(r"models/[\w-]+\.json", name)]
    if len(models) != 1:
        raise InputError(f"{path} holds {len(models)} programs; one, as torch.export.save writes it, is needed.")
    kept = {name: content for name, content in inner.items() if name in SMALL or name.startswith(KEPT)}
    for name in [name for name in kept if name.endswith(".json")]:
        _check_payloads(path, _json(path, kept[name]))
    kept[f"data/sample_inputs/{Path(models[0]).stem}.pt"] = b""  # a pickle, which nothing here needs
    kept[models[0]] = json.dumps(_program(path, _json(path, inner[models[0]]))).encode()
    return zipped({f"{stem}/{name}": content for name, content in kept.items()})


def _json(path: Path, content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a whole file of torch.export ({error}).") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} is not a whole file of torch.export: its program is {type(found).__name__}.")
    return found


def _check_payloads(path: Path, found: dict[str, Any]) -> None:
    """Weights and constants must be plain bytes."""
    payloads = found.get("config")
    for payload in payloads.values() if isinstance(payloads, dict) else ():
        name = payload.get("path_name", "") if isinstance(payload, dict) else ""
        if not isinstance(payload, dict) or payload.get("use_pickle") or not re.fullmatch(r"(weight|tensor)_\d+", name):
            raise InputError(f"{path} holds pickled weights or objects, which can run code and are not loaded.")


def _program(path: Path, found: dict[str, Any]) -> dict[str, Any]:
    """The program, without guards and without what it tells of the code that it came from."""
    graph_module = found.get("graph_module")
    if not isinstance(graph_module, dict) or not isinstance(graph_module.get("graph"), dict):
        raise InputError(f"{path} is not a whole file of torch.export: it has no graph.")
    graph = graph_module["graph"]
    for node in graph.get("nodes") or []:
        if not isinstance(node, dict) or not TARGET.fullmatch(str(node.get("target"))) or "from_file" in node["target"]:
            raise _not_run(path, node.get("target") if isinstance(node, dict) else node)
        node["metadata"] = {}
    for key, text in _strings(graph_module):
        _check_text(path, key, text)
    calls = [each for each in graph_module.get("module_call_graph") or [] if isinstance(each, dict)]
    graph_module |= {"metadata": {}, "treespec_namedtuple_fields": {}}
    graph_module["module_call_graph"] = [each for each in calls if each.get("fqn") == ""]
    for symbol in found.get("range_constraints") or {}:
        _check_text(path, "expr_str", symbol)
    kinds = [each for each in found.get("verifiers") or [] if re.fullmatch(r"[A-Z]{1,20}", str(each))]
    return {**found, "guards_code": [], "verifiers": kinds}


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """(the name under which it stands, text), however deep."""
    if isinstance(value, str):
        yield key, value
    for name, each in value.items() if isinstance(value, dict) else ():
        yield "", str(name)
        yield from _strings(each, str(name))
    for each in value if isinstance(value, list) else ():
        yield from _strings(each, key)


def _check_text(path: Path, key: str, text: str) -> None:
    if key == "expr_str":
        short = SPELLED.sub(r"\1", text)
        words = WORD.findall(short)
        if not SHAPE.fullmatch(short) or not all(SYMBOL.fullmatch(word) or word in FUNCTIONS for word in words):
            raise _not_run(path, text)
    elif key in ("in_spec", "out_spec"):
        if any(word in text for word in ("__", "defaultdict", "\\u")):  # they import what they name
            raise _not_run(path, text)
    elif key == "as_operator" or not (IDENTIFIER if key == "name" else PLAIN).fullmatch(text):
        raise _not_run(path, text)


def _not_run(path: Path, what: object) -> InputError:
    return InputError(f"The program in {path} has {str(what)[:80]!r}, which is no plain operator; it is not run.")
