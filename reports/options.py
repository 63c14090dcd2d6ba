"""How are an attack and its options read from text such as `pgd:steps=20,share=0.1`, and written as plain JSON?"""

import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from torch import nn

from attacks import CATALOG, Attack
from attacks.errors import InputError, unknown
from reports import generated
from reports.sources import models

WORDS = {"true": True, "false": False}


def named_attacks(given: Iterable[str | Attack]) -> dict[str, Attack]:
    """{name: attack}, in the order given. InputError where one is unknown, wrongly optioned or there twice.

    An attack goes by its name alone (`pgd`), or by its whole text (`pgd:steps=20`) where the name is there twice
    or is `generated`.
    """
    given = list(given)
    short = [each.partition(":")[0].strip() if isinstance(each, str) else type(each).__name__.lower() for each in given]
    found: dict[str, Attack] = {}
    for name, each in zip(short, given, strict=True):
        text = each.strip() if isinstance(each, str) else str(each)
        key = name if short.count(name) == 1 and name != generated.NAME else text
        if key in found:
            raise InputError(f"The attack {key} is there twice. Name it once, or give it other options.")
        found[key] = attack_from_text(each) if isinstance(each, str) else each
    if not found:
        raise InputError("No attack is named; an audit needs at least one.")
    return found


def attack_from_text(text: str) -> Attack:
    """The attack that `NAME` or `NAME:OPTION=VALUE,...` means; options have the types of its signature.

    `generated:RUN` is the generator that `advgan train perturber` wrote to the folder RUN.
    """
    name, _, rest = text.partition(":")
    name = name.strip()
    if name == generated.NAME:
        return generated.from_text(text)
    if name not in CATALOG:
        raise unknown("attack", name, [*CATALOG, f"{generated.NAME}:RUN"])
    make = CATALOG[name]
    options: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in rest.split(","))):
        option, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value:
            raise InputError(
                f"{text!r}: {part!r} is no option. Write NAME:OPTION=VALUE,..., say pgd:steps=20,share=0.1."
            )
        if option in options:
            raise InputError(f"{text!r} gives {option} twice.")
        options[option] = _value(name, make, option, value)
    try:
        return make(**options)
    except InputError:
        raise
    except Exception as error:  # an attack's own arithmetic on options that make no sense
        raise InputError(f"{text!r} cannot be made ({type(error).__name__}: {error}). Check its options.") from error


def described(attack: Attack) -> dict[str, Any]:
    """The options of an attack, those of the attacks inside it included, as plain JSON."""
    return {"class": type(attack).__name__, **_plain_fields(attack)}


def _value(name: str, make: Callable[..., Attack], option: str, text: str) -> Any:
    known = list(inspect.signature(make).parameters)
    if option not in known:
        raise unknown(f"option of {name}", option, known or ["none"])
    hint = get_type_hints(make)[option]
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if nn.Module in kinds:
        return _model(name, option, text)
    for kind in kinds:
        try:
            return _typed(text, kind)
        except ValueError:
            continue
    wanted = " or ".join(_spelled(kind) for kind in kinds)
    raise InputError(f"{name}:{option}={text}: {text!r} is not {wanted}.")


def _model(name: str, option: str, text: str) -> nn.Module:
    """The one model that text such as `digits:standard` or `net.py:make` means, as --model reads it."""
    found = models.load(text)
    if len(found) > 1:
        raise InputError(f"{name}:{option}={text} means {', '.join(found)}. Name one, say {option}=digits:standard.")
    return next(iter(found.values()))


def _typed(text: str, kind: Any) -> Any:
    """ValueError where the text is not of that kind."""
    if kind is bool and text.lower() in WORDS:
        return WORDS[text.lower()]
    if kind is NoneType and text.lower() == "none":
        return None
    if kind is float and not math.isfinite(float(text)):
        raise ValueError(text)
    if kind in (int, float, str):
        return kind(text)
    if get_origin(kind) is Literal and text in get_args(kind):
        return text
    raise ValueError(text)


def _spelled(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(map(str, get_args(kind)))
    names = {int: "a whole number", float: "a finite number", bool: "true or false", NoneType: "none", str: "a name"}
    return names.get(kind, "something that text can say (set it from Python)")


def _plain_fields(value: Any) -> dict[str, Any]:
    return {f.name: _plain(getattr(value, f.name)) for f in fields(value)} if is_dataclass(value) else {}


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {"class": type(value).__name__, **_plain_fields(value)}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int | float | str | bool | None):
        return value
    return getattr(value, "__name__", type(value).__name__)
