"""How is the classifier in an ONNX file loaded: with gradients where it can be converted, else its scores alone?"""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attacks.errors import InputError
from attacks.models import FromCallable, LogProbabilities, from_onnx
from reports.sources.limits import check_room
from reports.sources.needed import needed

ROWS = 3  # inputs that the conversion is tried on; an odd number finds a batch size that was written down
KNOWN = 17  # the latest set of operators that onnx2torch has nearly all of
NEAR = 1e-3  # of the scores' spread, by which the converted network may differ


def load(spec: str, weights: Path | None) -> tuple[str, nn.Module]:
    """`onnx:FILE`: its first output is taken for logits, or, where that is a softmax, for probabilities.

    It is converted by onnx2torch, and kept where its answers agree with onnxruntime's on random inputs; where they do
    not, or it cannot be converted, onnxruntime runs it and it gives no gradients. External data must lie in its folder.
    """
    onnx = needed("onnx", spec, "onnx")
    path = Path(spec.partition(":")[2])
    program = _read(onnx, path)
    scores = from_onnx(path)
    softmax = _ends_in_softmax(program)
    model = _converted(onnx, path, scores, softmax)
    return path.stem, LogProbabilities(model) if softmax and model is scores else model


def _read(onnx: Any, path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"There is no file {path}; an ONNX file is needed.")
    check_room(str(path), path.stat().st_size)
    try:
        program = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own
        raise InputError(f"{path} is not a whole ONNX file ({error}).") from error
    outside = [place for place in _external(program) if not _within(path.parent, place)]
    if outside:
        raise InputError(f"{path} takes its weights from {outside[0]}, which is not in its folder: it is not read.")
    missing = [place for place in _external(program) if not (path.parent / place).is_file()]
    if missing:
        raise InputError(f"{path} takes its weights from {missing[0]}, which is not there. Put it beside the file.")
    return program


def _external(message: Any) -> Iterator[str]:
    """The files that tensors anywhere in the program are to be read from."""
    if type(message).__name__ == "TensorProto":
        yield from (entry.value for entry in message.external_data if entry.key == "location")
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in value if isinstance(value, list) or hasattr(value, "add") else [value]:
                yield from _external(each)


def _within(folder: Path, place: str) -> bool:
    """Whether the place, links followed, is a file in the folder."""
    return not Path(place).is_absolute() and (folder / place).resolve().is_relative_to(folder.resolve())


def _ends_in_softmax(program: Any) -> bool:
    if not program.graph.output:
        return False
    last = program.graph.output[0].name
    return any(last in node.output and node.op_type == "Softmax" for node in program.graph.node)


def _before_softmax(program: Any) -> Any:
    """The same, less its last step: what goes into that comes out."""
    graph = program.graph
    last = next(node for node in graph.node if graph.output[0].name in node.output)
    graph.output[0].name = last.input[0]
    graph.node.remove(last)
    return program


def _without_identities(program: Any) -> Any:
    """The same, its nodes fed by what each Identity hands on: such as the weights that layers share."""
    graph, ends = program.graph, {each.name for each in program.graph.output}
    idle = [node for node in graph.node if node.op_type == "Identity" and node.output[0] not in ends]
    for node in idle:
        for other in graph.node:
            for k, name in enumerate(other.input):
                if name == node.output[0]:
                    other.input[k] = node.input[0]
        graph.node.remove(node)
    return program


def _as_known(program: Any) -> Any:
    """Said to be of a set of operators that onnx2torch knows; whether that was right, the answers tell."""
    for each in program.opset_import:
        each.version = min(each.version, KNOWN) if each.domain == "" else each.version
    return program


def _converted(onnx: Any, path: Path, scores: FromCallable, softmax: bool) -> nn.Module:
    """The network in PyTorch, up to its softmax; or the one that onnxruntime runs, with the reason noted."""
    file: Any = scores.function
    try:
        import onnx2torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the conversion's own making
            program = _as_known(_without_identities(onnx.load(path)))
            network = onnx2torch.convert(_before_softmax(program) if softmax else program).eval()
        x = torch.rand(ROWS, *_shape(file.input.shape), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            wanted, given = scores(x), network(x)
        if not _agree(wanted, given.softmax(1) if softmax else given):
            raise InputError("its answers are not those of onnxruntime")
    except Exception as error:  # an operator that is not known, a batch size that was written down
        why = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        file.note = f"onnxruntime runs it; it was not converted, opset {KNOWN} may be: {why.rstrip('.')}"
        return scores
    return Converted(network, softmax)


class Converted(nn.Module):
    """A network that onnx2torch made."""

    def __init__(self, network: nn.Module, softmax: bool):
        super().__init__()
        self.network = network
        less = ", less its last softmax" if softmax else ""
        self.note = f"converted by onnx2torch{less}: gradients flow, and its answers agree with onnxruntime's."

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)


def _agree(wanted: Tensor, given: Any) -> bool:
    if not isinstance(given, Tensor) or given.shape != wanted.shape:
        return False
    spread = float(wanted.max() - wanted.min())
    return bool(np.isfinite(spread)) and float((wanted - given).abs().max()) <= NEAR * max(spread, 1e-6)


def _shape(declared: list[Any]) -> list[int]:
    """Of one input; where a side is free, one that suits most networks."""
    return [side if isinstance(side, int) else (32 if axis > 1 else 3) for axis, side in enumerate(declared)][1:]
