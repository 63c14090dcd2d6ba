"""Linear classifiers, and how far the nearest input of another class is from each of their inputs."""

import torch
from torch import Tensor, nn


class Linear(nn.Module):
    """Logits W x + b, each row by elementwise products and sums."""

    def __init__(self, weight: Tensor, bias: Tensor):
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1)[:, None, :] * self.weight).sum(2) + self.bias


def make(
    classes: int, features: int, rows: int, seed: int = 0, low: float = 0.0, high: float = 1.0, dtype=torch.float64
):
    """A random linear model, inputs in [low, high] and the model's own labels."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, features, generator=generator, dtype=torch.float64).to(dtype)
    x = (low + (high - low) * torch.rand(rows, features, generator=generator, dtype=torch.float64)).to(dtype)
    model = Linear(weight, -(weight * x.mean(0)).sum(1))
    return model, x, model(x).argmax(1)


def best_gain(norm: str, w: Tensor, up: Tensor, down: Tensor, eps: Tensor) -> Tensor:
    """[B]: the most that w . delta [B, d] can be with size(delta) <= eps [B] and -down <= delta <= up."""
    room = torch.where(w > 0, up, down)
    slope = w.abs()
    if norm == "linf":
        return (slope * torch.minimum(room, eps[:, None])).sum(1)
    if norm == "l1":
        order = slope.argsort(dim=1, descending=True)
        sorted_room = room.gather(1, order)
        spent = sorted_room.cumsum(1) - sorted_room
        return (slope.gather(1, order) * torch.minimum((eps[:, None] - spent).clamp_min(0), sorted_room)).sum(1)
    if norm == "l0":
        gains = (slope * room).sort(dim=1, descending=True).values
        allowed = torch.arange(gains.shape[1]) < eps[:, None].floor()
        return (gains * allowed).sum(1)
    least, most = torch.zeros_like(eps), torch.full_like(eps, 1e6)
    for _ in range(200):  # delta = clamp(t w): t by bisection on the size
        t = (least + most) / 2
        inside = torch.minimum(slope * t[:, None], room).square().sum(1).sqrt() <= eps
        least, most = torch.where(inside, t, least), torch.where(inside, most, t)
    return (slope * torch.minimum(slope * least[:, None], room)).sum(1)


def distance(norm: str, model: Linear, x: Tensor, labels: Tensor, target: Tensor, low: float, high: float) -> Tensor:
    """[B] float64: the eps from which on `target` can overtake the label within [low, high]; inf where it never can."""
    x = x.double()
    w = (model.weight[target] - model.weight[labels]).double().detach()
    logits = model.double()(x).detach()
    need = (logits.gather(1, labels[:, None]) - logits.gather(1, target[:, None])).squeeze(1)
    up, down = high - x, x - low
    least, most = torch.zeros_like(need), torch.full_like(need, 1e3)
    never = best_gain(norm, w, up, down, most) < need
    for _ in range(100):
        eps = (least + most) / 2
        enough = best_gain(norm, w, up, down, eps) >= need
        least, most = torch.where(enough, least, eps), torch.where(enough, eps, most)
    return torch.where(never, torch.inf, most)


def optimum(norm: str, model: Linear, x: Tensor, labels: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """[B] float64: the eps from which on any other class can overtake the label."""
    classes = range(len(model.bias))
    each = [distance(norm, model, x, labels, torch.full_like(labels, k), low, high) for k in classes]
    return torch.stack(each).scatter(0, labels[None], torch.inf).amin(0)
