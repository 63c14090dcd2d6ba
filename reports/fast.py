"""In which cheaper form is each model searched, where a fast audit is asked for?"""

import json
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from attacks import Access, Form, fastest_form
from attacks.errors import InputError
from reports.devices import device_named, placed
from reports.plan import usual_batch
from reports.sources.dataset import Dataset
from reports.sources.told import access_of
from reports.unfinished import ASKED, place_of

AUTO = "auto"
MOST = 64  # examples that forms are measured on


def forms_for(
    text: str, models: Mapping[str, nn.Module], data: Dataset, device: str, out: Path | str
) -> dict[str, Form]:
    """By the name of the model. text: a form, as `Form.parse` takes it, or "auto": the fastest, measured here and now.

    What an audit that was stopped at `out` had measured stays. Raises InputError for a text that names no form.
    """
    if text != AUTO:
        form = _parsed(text)
        return {name: form for name, model in models.items() if access_of(model) is Access.GRADIENT}
    before = _measured_before(out)
    if before is not None:
        return {name: Form.parse(before[name]) for name in models if name in before}
    place = device_named(device)
    x = next(data.batches(min(MOST, usual_batch(data.shape)), MOST)).x.to(place)
    with placed(models, place):
        return {name: fastest_form(model, x) for name, model in models.items() if access_of(model) is Access.GRADIENT}


def _measured_before(out: Path | str) -> dict[str, str] | None:
    for path in place_of(out).glob(f"*/{ASKED}"):
        try:
            return json.loads(path.read_text(encoding="utf-8"))["configuration"]["fast"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def check(text: str) -> None:
    """Raises InputError for a text that names no form."""
    if text != AUTO:
        _parsed(text)


def _parsed(text: str) -> Form:
    if not text:
        raise InputError("--fast names no form of a model. Say auto, or some of bf16, channels_last, fold_batchnorm.")
    return Form.parse(text)
