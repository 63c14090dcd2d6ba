"""Which classifier does a function in a file or a package make: a module, an estimator, or a plain function?"""

import contextlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from torch import nn

from attacks.errors import InputError, unknown
from attacks.models import FromCallable, LogProbabilities
from reports.sources.forms import MODELS, texts
from reports.sources.weights import fill, read_weights

WANTED = "a torch.nn.Module, something with predict_proba or predict, or a function of an array"


def load(spec: str, weights: Path | None) -> tuple[str, nn.Module]:
    """`FILE.py:FUNCTION` or `PACKAGE.MODULE:FUNCTION`: the function takes no argument and returns the classifier.

    What it may return: a module; an estimator with `predict_proba` (scores) or only `predict` (decisions), which is
    shown each input as one row of numbers; any other callable, which is shown arrays [b, ...] and gives scores [b, K].
    The file is run. Raises InputError where there is no such function, or it returns anything else.
    """
    place, _, name = spec.rpartition(":")
    made = _made(spec, *_found(spec, place, name))
    model = made if isinstance(made, nn.Module) else _outside(spec, made)
    if weights is not None:
        fill(model, read_weights(weights), weights, spec)
    return name, model


def _outside(spec: str, made: Any) -> nn.Module:
    """A classifier outside PyTorch, which gives no gradients."""
    if hasattr(made, "predict_proba"):
        return LogProbabilities(FromCallable(_Flat(made.predict_proba)))
    if hasattr(made, "predict"):
        classes = getattr(made, "classes_", None)
        if classes is None:
            raise InputError(f"{spec} has predict and no classes_: the number of its classes is not known. Fit it.")
        return FromCallable(_Flat(_Numbered(made.predict, classes)), decisions=True, classes=len(classes))
    return FromCallable(made)


class _Flat:
    """function, shown each input as one row of numbers."""

    def __init__(self, function: Callable[[np.ndarray], Any]):
        self.function = function

    def __call__(self, x: np.ndarray) -> Any:
        return self.function(x.reshape(len(x), -1))


class _Numbered:
    """predict, its answers as places in the list of the classes."""

    def __init__(self, predict: Callable[[np.ndarray], Any], classes: Any):
        self.predict, self.places = predict, {each: k for k, each in enumerate(np.asarray(classes).tolist())}

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.array([self.places[each] for each in np.asarray(self.predict(x)).tolist()], dtype=np.int64)


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


def _made(spec: str, found: Any, folder: Path | None) -> Any:
    if isinstance(found, nn.Module) or _is_estimator(found):
        return found
    if not callable(found):
        raise InputError(f"{spec} is {type(found).__name__}; a function that returns {WANTED} is needed.")
    needed = _arguments(found)
    if needed:
        raise InputError(
            f"{spec} needs {', '.join(needed)}; name a function that takes no argument and makes the model."
        )
    with _importing_from(folder or Path.cwd()), _blaming(spec):
        made = found()
    if isinstance(made, nn.Module) or _is_estimator(made) or (callable(made) and not isinstance(made, type)):
        return made
    raise InputError(f"{spec} returns {type(made).__name__}; a function that returns {WANTED} is needed.")


def _is_estimator(found: Any) -> bool:
    return not isinstance(found, type | ModuleType) and (hasattr(found, "predict_proba") or hasattr(found, "predict"))


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
            near = get_close_matches(spec, texts(MODELS), n=1)
            hint = f"Did you mean {near[0]}? " if near else ""
            raise InputError(
                f"{spec} names no model: there is no module {error.name} here or among the installed packages. "
                f"{hint}Known: {', '.join(texts(MODELS))}."
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
