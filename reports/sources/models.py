"""Which classifiers does a text such as `digits`, `net.py:make`, `timm:NAME`, `onnx:FILE` or `https://...` name?"""

import importlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from attacks.errors import InputError, unknown
from reports.sources.forms import MODELS, Form, texts

KINDS = {form.prefix.lower(): form for form in MODELS if form.place != __name__ and "FUNCTION" not in form.text}
PYTHON = MODELS[-1]


def load(spec: str, *, weights: Path | None = None) -> dict[str, nn.Module]:
    """The classifiers that a text names: modules in eval mode that take inputs within the data's bounds, give logits.

    spec: of one of the `forms.MODELS`; `digits` names two, every other one.
    weights: a state dict to load into the module, safetensors or torch.save's; nothing pickled is run.
    What was put round a model (a normalisation, say) is told by `told.told`, what it reveals by `told.access_of`.
    Raises InputError for whatever cannot be found or used.
    """
    if is_digits(spec):
        if weights is not None:
            raise InputError(f"--weights was given, and {spec} brings its own.")
        return _digits(spec)
    form = _form(spec)
    _check(spec, form, weights)
    # timm, transformers and onnxruntime are slow to import and optional: each only where it is needed.
    name, model = importlib.import_module(form.place).load(spec, weights)
    return {name: model.eval()}


def digits_for(specs: Sequence[str]) -> str:
    """The data that is meant where a command names none: the digits, for models of digits.

    Raises InputError for any other model, and for what names no model.
    """
    for spec in specs:
        if not is_digits(spec):
            _check(spec, _form(spec), None)
            raise InputError(f"--model {spec} needs --data: FILE.npz, FILE.csv, a folder, or what else --help lists.")
    return "digits"


def is_digits(spec: str) -> bool:
    return spec.partition(":")[0] == "digits"


def _form(spec: str) -> Form:
    return KINDS.get(spec.partition(":")[0]) or PYTHON


def _check(spec: str, form: Form, weights: Path | None) -> None:
    if weights is not None and not form.weights:
        raise InputError(f"--weights was given, and {spec} brings its own.")
    if form is not PYTHON:
        if not spec.partition(":")[2]:
            raise InputError(f"{spec} names nothing. Write {form.text}.")
        return
    place, _, name = spec.rpartition(":")
    if not place or not name:
        if spec.endswith(".py") or spec.endswith(".py:"):
            raise InputError(f"{spec} names no function. Write FILE.py:FUNCTION, say {spec.rstrip(':')}:make_model.")
        raise unknown("model", spec, texts(MODELS))


def load_several(specs: Sequence[str], *, weights: Path | None = None) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """Name -> classifier and name -> the text it was named by; two of the same name are told apart by numbers.

    Raises InputError where two are the same, and for weights of several models.
    """
    if weights is not None and len(specs) > 1:
        raise InputError(f"--weights belongs to one --model, and {len(specs)} are given. Name one.")
    found: dict[str, nn.Module] = {}
    spelled: dict[str, str] = {}
    for spec in specs:
        for name, module in load(spec, weights=weights).items():
            if name in found and (spec in spelled.values() or is_digits(spec)):
                raise InputError(f"--model {spec} is there twice.")
            free = next(f"{name}{end}" for end in ("", *(f"_{k}" for k in range(2, 99))) if f"{name}{end}" not in found)
            found[free], spelled[free] = module, spec
    return found, spelled


def classes_of(option: str, model: nn.Module, x: Tensor) -> int:
    """How many classes the model that an option names answers x [b, ...] with; InputError where it gives no logits."""
    try:
        with torch.no_grad():
            answer = model(x)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a model's own
        why = str(error).strip().split("\n")[0]
        raise InputError(f"{option} cannot take inputs {list(x.shape[1:])} ({why}). Name another.") from error
    if not isinstance(answer, Tensor) or answer.ndim != 2:
        shape = list(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise InputError(f"{option} answers {shape}; logits [b, K] are needed, one for each class.")
    return answer.shape[1]


def _digits(spec: str) -> dict[str, nn.Module]:
    from reports import zoo

    name = spec.partition(":")[2]
    if spec != "digits" and name not in ("standard", "robust"):
        raise unknown("model", spec, texts(MODELS[:3]))
    both = zoo.load()
    return both if spec == "digits" else {f"digits_{name}": both[f"digits_{name}"]}
