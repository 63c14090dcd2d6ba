"""Which classifiers does a text such as `digits`, `net.py:make`, `package.net:make` or `torchvision:resnet18` name?"""

import contextlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from attacks.errors import InputError, unknown
from attacks.models import Normalized
from reports.sources.weights import fill, read_weights

FORMS = (
    "digits",
    "digits:standard",
    "digits:robust",
    "torchvision:NAME",
    "FILE.py:FUNCTION",
    "PACKAGE.MODULE:FUNCTION",
)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and standard deviation per channel


def load(spec: str, *, weights: Path | None = None) -> dict[str, nn.Module]:
    """The classifiers that a text names: modules in eval mode that take inputs within [0, 1] and give logits.

    spec: `digits` (both of the package's), `digits:standard`, `digits:robust`; `FILE.py:FUNCTION` or
        `PACKAGE.MODULE:FUNCTION`, which takes no argument and returns the module; `torchvision:NAME`.
    weights: a state dict to load into the module, safetensors or torch.save's; nothing pickled is run.
    Raises InputError for whatever cannot be found or used.
    """
    kind, _, name = spec.rpartition(":")
    if spec == "digits" or kind == "digits":
        if weights is not None:
            raise InputError(f"--weights was given, and {spec} brings its own.")
        return _digits(spec, name)
    if kind == "torchvision":
        return {name: _torchvision(name, weights).eval()}
    if not kind or not name:
        if spec.endswith(".py") or spec.endswith(".py:"):
            raise InputError(f"{spec} names no function. Write FILE.py:FUNCTION, say {spec.rstrip(':')}:make_model.")
        raise unknown("model", spec, FORMS)
    model = _made(spec, *_found(spec, kind, name))
    if weights is not None:
        fill(model, read_weights(weights), weights, spec)
    return {name: model.eval()}


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
            if name in found and (spec in spelled.values() or spec.partition(":")[0] == "digits"):
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


def _digits(spec: str, name: str) -> dict[str, nn.Module]:
    from reports import zoo

    if spec != "digits" and name not in ("standard", "robust"):
        raise unknown("model", spec, FORMS[:3])
    both = zoo.load()
    return both if spec == "digits" else {f"digits_{name}": both[f"digits_{name}"]}


def _found(spec: str, place: str, name: str) -> tuple[Any, Path | None]:
    """The function, and the folder that its file is in (None for a module of an installed package)."""
    is_file = place.endswith(".py") or "/" in place
    path = Path(place)
    if is_file and not path.is_file():
        raise InputError(f"There is no file {place}, which {spec} names.")
    folder = path.resolve().parent if is_file else None
    with _importing_from(folder or Path.cwd()):
        module = _run_file(spec, path.resolve()) if is_file else _import(spec, place)
    if not hasattr(module, name):
        raise InputError(f"{place}: {unknown('function', name, _own_functions(module))}")
    return getattr(module, name), folder


def _own_functions(module: ModuleType) -> list[str]:
    """The public functions and classes that the module itself defines."""
    named = ((name, value) for name, value in vars(module).items() if callable(value) and not name.startswith("_"))
    return [name for name, value in named if getattr(value, "__module__", None) == module.__name__]


def _made(spec: str, found: Any, folder: Path | None) -> nn.Module:
    if isinstance(found, nn.Module):
        return found
    if not callable(found):
        raise InputError(f"{spec} is {type(found).__name__}; a function that returns a torch.nn.Module is needed.")
    needed = _arguments(found)
    if needed:
        raise InputError(
            f"{spec} needs {', '.join(needed)}; name a function that takes no argument and makes the model."
        )
    with _importing_from(folder or Path.cwd()), _blaming(spec):
        made = found()
    if not isinstance(made, nn.Module):
        raise InputError(f"{spec} returns {type(made).__name__}; a function that returns a torch.nn.Module is needed.")
    return made


def _arguments(function: Callable[..., Any]) -> list[str]:
    """The arguments that have no default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return [p.name for p in named if p.default is p.empty]


def _run_file(spec: str, path: Path) -> ModuleType:
    name = f"advgan_model_{path.stem}_{abs(hash(path))}"
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise InputError(f"{path} is not a Python file, and {spec} names it as one.")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # dataclasses look their module up here
    with _blaming(spec):
        found.loader.exec_module(module)
    return module


def _import(spec: str, place: str) -> ModuleType:
    with _blaming(spec):
        try:
            return importlib.import_module(place)
        except ModuleNotFoundError as error:
            if error.name is None or not (place == error.name or place.startswith(f"{error.name}.")):
                raise
            near = get_close_matches(spec, FORMS, n=1)
            hint = f"Did you mean {near[0]}? " if near else ""
            raise InputError(
                f"{spec} names no model: there is no module {error.name} here or among the installed packages. "
                f"{hint}Known: {', '.join(FORMS)}."
            ) from error


@contextlib.contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """Imports look in the folder first, as they do for a script that is run from there."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))


@contextlib.contextmanager
def _blaming(spec: str) -> Iterator[None]:
    """What goes wrong in code that is not ours is told with its file and line."""
    try:
        yield
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        at = next((f for f in reversed(frames) if "site-packages" not in f.filename), frames[-1])
        if isinstance(error, SyntaxError):
            raise InputError(f"{spec} cannot be run: {error.msg} ({error.filename}, line {error.lineno}).") from error
        what = f"{type(error).__name__}: {error}"
        raise InputError(f"{spec} cannot be made: {what} ({at.filename}, line {at.lineno}).") from error


def _torchvision(name: str, weights: Path | None) -> nn.Module:
    from torchvision import models

    names = models.list_models(module=models)
    if name not in names:
        raise unknown("torchvision model", name, get_close_matches(name, names, n=8, cutoff=0.3) or names)
    if weights is None:
        return _with_default_weights(name)
    state = read_weights(weights)
    with torch.device("meta"):
        last, parameter = list(models.get_model(name, weights=None).named_parameters())[-1]
    if last not in state:
        raise InputError(f"{weights} does not fit torchvision:{name}: it lacks {last}. Name the model that it is of.")
    with torch.random.fork_rng():
        model = models.get_model(name, weights=None, num_classes=len(state[last]) if parameter.ndim else None)
    fill(model, state, weights, f"torchvision:{name}")
    return Normalized(model, *IMAGENET)


def _with_default_weights(name: str) -> nn.Module:
    from torchvision import models

    chosen = models.get_model_weights(name).DEFAULT  # type: ignore[attr-defined]
    try:
        model = models.get_model(name, weights=chosen)
    except Exception as error:  # no network, a full disk, a damaged file in the cache
        raise InputError(
            f"The weights of torchvision:{name} could not be fetched ({error}). Where there is a network, download "
            f"{chosen.url}, and name the file with --weights."
        ) from error
    transforms = chosen.transforms()
    return Normalized(model, transforms.mean, transforms.std)
