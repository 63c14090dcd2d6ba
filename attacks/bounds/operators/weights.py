"""What multiplies by weights, and the batch normalisation after it."""

import math

import torch
from torch import Tensor

from ..pieces import Affine
from .making import Made, Makers, Var, constant, need

aten = torch.ops.aten
MAKERS = Makers()


@MAKERS.of(aten.convolution.default, aten._convolution.default)
def _convolution(out, x, weight, bias, stride, padding, dilation, transposed, output_padding, groups, *_) -> Made:
    need(isinstance(x, Var) and isinstance(weight, Tensor), "its weight depends on the input")
    need(len(x.shape) == weight.ndim, "its input has no batch")
    weight = weight.detach().double()
    how = (stride, padding, dilation, transposed, output_padding, groups)
    taps = math.prod(weight.shape[2:])
    terms = taps * (weight.shape[0] // groups if transposed else weight.shape[1])

    def back(form: Tensor) -> tuple[Tensor]:
        like = form.new_zeros(()).expand(len(form), *x.shape[1:])
        only_input = [True, False, False]
        return (aten.convolution_backward(form, like, weight, None, *how, only_input)[0],)

    shape = (1, len(bias), *[1] * (len(out) - 2)) if bias is not None else None
    return Made(
        Affine(
            lambda z: aten.convolution(z, weight, None, *how),
            lambda z: aten.convolution(z, weight.abs(), None, *how),
            None if bias is None else bias.detach().double().reshape(shape),
            roundings=terms + 1,
            transposed=back,
        ),
        (x,),
    )


@MAKERS.of(aten.addmm.default)
def _addmm(out, bias, x, weight, *, beta=1, alpha=1) -> Made:
    need(
        not isinstance(bias, Var) and isinstance(x, Var) and isinstance(weight, Tensor),
        "its weight depends on the input",
    )
    weight = weight.detach().double() * alpha
    return Made(
        Affine(
            lambda z: z @ weight,
            lambda z: z @ weight.abs(),
            constant(bias, out) * beta,
            roundings=len(weight) + 3,
            transposed=lambda form: (form @ weight.T,),
        ),
        (x,),
    )


@MAKERS.of(aten.mm.default)
def _mm(out, x, weight) -> Made:
    return _addmm(out, 0.0, x, weight)


@MAKERS.of(aten.native_batch_norm.default, aten.cudnn_batch_norm.default, aten.miopen_batch_norm.default)
def _batch_norm(out, x, weight, bias, mean, variance, training, momentum, eps) -> Made:
    need(not training, "it normalises by the batch's own statistics")
    channels = (1, x.shape[1], *[1] * (len(x.shape) - 2))
    scale = (variance.detach().double() + eps).rsqrt()
    scale = (scale if weight is None else scale * weight.detach().double()).reshape(channels)
    shift = mean.detach().double().reshape(channels) * scale
    plus = torch.zeros_like(shift) if bias is None else bias.detach().double().reshape(channels)
    return Made(
        Affine(lambda z: z * scale, lambda z: z * scale.abs(), plus - shift, plus.abs() + shift.abs(), roundings=8),
        (x,),
    )


@MAKERS.of(aten._native_batch_norm_legit_no_training.default)
def _batch_norm_in_eval(out, x, weight, bias, mean, variance, momentum, eps) -> Made:
    return _batch_norm(out, x, weight, bias, mean, variance, False, momentum, eps)
