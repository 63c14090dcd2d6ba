"""How is a TorchScript program loaded, whose code may reach no file?"""

import re
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from attacks.errors import InputError
from reports.sources.limits import unzipped, zipped

# A program is code: operators that read and write files are refused before any of it runs.
FILES = re.compile(r"\b(?:from_file|save)\b")
PLAIN = r'\([\w.]+, "[\w.-]*"\)'  # of an attribute whose name is spelled out
OTHER_NAMES = re.compile(rf"\bgetattr\b(?!{PLAIN})\S*")
SPACES = "aten|prim|prims|quantized|_quantized|torchvision|mkldnn|sparse"
OTHERS = re.compile(rf"(?<![\w.])ops\b(?!\.(?:{SPACES})\.)\S*")


def load(spec: str, weights: Path | None) -> tuple[str, nn.Module]:
    """`torchscript:FILE`, as torch.jit.save wrote it; what it gives must be logits for inputs as the data has them."""
    path = Path(spec.partition(":")[2])
    files = unzipped(path, "TorchScript file")
    if not any(name.endswith("/constants.pkl") for name in files):
        raise InputError(f"{path} holds no TorchScript program; torch.jit.save writes one.")
    for name, content in files.items():
        if name.endswith(".py"):
            _check(path, content.decode("utf-8", "replace"))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".*torch\.jit\.load.* is deprecated", FutureWarning)
        try:
            program = torch.jit.load(zipped(files), map_location="cpu")
        except Exception as error:  # whatever PyTorch's reader finds wrong with it
            why = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(f"{path} is not a whole TorchScript file ({why}).") from error
    return path.stem, Program(program)


class Program(nn.Module):
    """A program, in the mode that it was saved in."""

    def __init__(self, program: nn.Module):
        super().__init__()
        self.program = program

    def train(self, mode: bool = True) -> "Program":
        """Only eval mode is handed on: a program may know no other, or none at all."""
        self.training = mode
        if not mode and isinstance(self.program, torch.jit.ScriptModule):
            self.program.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.program(x)


def _check(path: Path, code: str) -> None:
    found = FILES.search(code)
    if found:
        raise InputError(f"The program in {path} may read or write files ({found[0]}), and is not run.")
    other = OTHERS.search(code) or OTHER_NAMES.search(code)
    if other:
        raise InputError(f"The program in {path} calls {other[0][:40]}, which is none of PyTorch's, and is not run.")
