"""Compiles every Triton kernel for a GPU that need not be there, and prints how many; run in a process of its own."""

import re

import torch
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from attacks.kernels import (
    triton_ascent,
    triton_grid,
    triton_keep,
    triton_l1,
    triton_losses,
    triton_noise,
    triton_recolour,
    triton_rows,
    triton_steps,
)

HALVES = {torch.bfloat16: "*bf16", torch.float16: "*fp16"}
TYPES = HALVES | {torch.float32: "*fp32", torch.float64: "*fp64", torch.int64: "*i64", torch.bool: "*i1"}
OPTIONS = ("num_warps", "enable_fp_fusion")


def narrow_offsets(code: str) -> list[str]:
    """The lines that would read elsewhere beyond 2^31 elements, of a kernel in Triton's intermediate language.

    Offsets have 64 bits, but for constants; and so has the number of the row (or block) before anything is made of it.
    """
    lines = code.splitlines()
    rows = [line.split("=")[0].strip() for line in lines if "tt.get_program_id x" in line]
    narrow = []
    for line in lines:
        offset = re.search(r"tt.addptr %\S+, (%\S+) : .*i32>?( loc|$)", line)
        used = any(re.search(rf"= .*{row}\b", line) for row in rows)
        if (offset and not re.fullmatch(r"%c(st|-?\d+_i32)(_\d+)?", offset[1])) or (used and "arith.extsi" not in line):
            narrow.append(line.strip())
    return narrow


@triton.jit
def narrow(out, width):
    """What must not pass for wide."""
    column = tl.arange(0, 16)
    tl.store(out + tl.program_id(0) * width + column, column)  # the row in 32 bits
    tl.store(out + tl.program_id(0).to(tl.int64) * width + column, column)  # the column alone in 32 bits


class Recorder:
    """In a kernel's place: compiles it for the arguments of the launch, and launches nothing."""

    def __init__(self, kernel):
        self.kernel, self.done = kernel, set()

    def __getitem__(self, grid):
        return self.compile

    def compile(self, *arguments, **constants):
        options = {name: constants.pop(name) for name in OPTIONS if name in constants}
        names = self.kernel.arg_names
        signature = {}
        for name, argument in zip(names[: len(arguments)], arguments, strict=True):
            if isinstance(argument, torch.Tensor):
                signature[name] = TYPES[argument.dtype]
            elif argument == 1 and name not in self.kernel.do_not_specialize:  # Triton makes a constant of it
                constants[name] = 1
            else:
                signature[name] = "i32" if argument < 2**31 else "i64"
        signature |= dict.fromkeys(constants, "constexpr")
        if (key := repr((signature, constants))) not in self.done:
            values = {(names.index(name),): value for name, value in constants.items()}
            source = ASTSource(self.kernel, signature, constexprs=values)
            for capability in (80, 90):
                compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
                assert (narrow := narrow_offsets(compiled.asm["ttir"])) == [], (names, narrow)
            self.done.add(key)


compiled = triton.compile(ASTSource(narrow, {"out": "*i32", "width": "i32"}), target=GPUTarget("cuda", 90, 32))
assert len(narrow_offsets(compiled.asm["ttir"])) >= 3
kernels = []
for module, name in (
    (triton_steps, "_step_linf"),
    (triton_steps, "_step_l2"),
    (triton_losses, "_loss"),
    (triton_losses, "_over_largest"),
    (triton_noise, "_random"),
    (triton_keep, "_keep"),
    (triton_grid, "_on_grid"),
    (triton_recolour, "_recolour"),
    (triton_rows, "_take_rows"),
    (triton_l1, "_project"),
):
    kernels.append(Recorder(getattr(module, name)))
    setattr(module, name, kernels[-1])

for dtype in (torch.float32, torch.float64):
    x, row = torch.rand(2, 1025, dtype=dtype), torch.rand(2, dtype=dtype)
    for image in (x, x[:, :1]):
        triton_steps.step_linf(image, image, row, image, image)
        triton_steps.step_l2(image, image, image, row, row, image, image)
    triton_steps.shrink_l2(x, x, row, x, x, 1e9)
    state = (x, x, x, row > 0, x, x, row)
    for unit in (None, x):
        triton_ascent.ascend_linf(*state, x, x, unit, 0.25)
    triton_ascent.ascend_l2(x, *state, row, x, x, 0.25)
    triton_l1.project_l1(x, x, row, x, x)
    triton_grid.on_grid(x, torch.stack((x, x)), 255)
    labels = torch.tensor([0, 1])
    kept, hit = (x, row.double(), labels, labels, labels > 0, labels, labels), labels > 0
    for norm, levels, ends in (
        ("linf", None, "first"),
        ("l2", None, "smallest"),
        ("l1", None, None),
        ("l0", 255, "first"),
    ):
        triton_keep.keep_better(kept, hit, hit, x, x, x, x, row.double(), norm, levels, 7, (3, 2, labels), ends)
    for classes, targeted, versus in ((2, False, None), (10, True, labels), (1000, False, None)):
        for loss in (triton_losses.margin, triton_losses.dlr, triton_losses.cross_entropy):
            loss(x[:, :classes], labels, targeted, versus)
    triton_rows.take_rows([x, hit], labels)
    picture = x[:, :300].reshape(2, 3, 10, 10)
    triton_recolour.recolour(picture, picture, x[:, :2], 4, x[:, :3], x[:, :300], x[:, :300])
    triton_losses.verdict(x, labels, False)
    triton_losses.over_largest(x)
    for count in (1, 3072):
        triton_noise.uniform(3, labels, 5, count, dtype)
        triton_noise.random_words(2**64 - 1, labels, 2**32 - 1, count)
for dtype in HALVES:
    x, row, labels = torch.zeros(2, 1025, dtype=dtype), torch.zeros(2, dtype=dtype), torch.tensor([0, 1])
    triton_steps.step_linf(x, x, row, x, x)
    triton_steps.step_l2(x, x, x, row, row, x, x)
    triton_losses.dlr(x, labels, False)
    triton_grid.on_grid(x, x, 255)
    triton_recolour.recolour(x.view(2, 1, 25, 41), x.view(2, 1, 25, 41), x[:, :2], 4, x[:, :1], x, x)
print(sum(len(kernel.done) for kernel in kernels))
