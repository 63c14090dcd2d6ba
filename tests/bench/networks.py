"""The networks that speed is measured on: cheap enough to show overhead, and sure enough that no row is ever fooled."""

import torch
from torch import Tensor, nn
from torchvision.models import resnet18

LEAD = 10.0  # logits by which class 0 leads: out of reach of any eps used here, yet no gradient underflows


def small_cnn() -> nn.Module:
    """1x28x28, two convolutions (32 and 64) and two linear layers (200): as small as MNIST networks commonly are."""
    return two_convolutions(32, 64, 200)


def tiny_cnn() -> nn.Module:
    """A fifth of that: what surrounds the passes weighs the more."""
    return two_convolutions(16, 32, 100)


def two_convolutions(first: int, second: int, hidden: int) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, first, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(first, second, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(second * 7 * 7, hidden),
        nn.ReLU(),
        nn.Linear(hidden, 10),
    )
    return sure_of_class_0(net, net[-1])


def resnet18_for_32x32() -> nn.Module:
    """torchvision's ResNet-18 with a 3x3 stem of stride 1 and no pooling after it."""
    torch.manual_seed(0)
    net = resnet18(num_classes=10)
    net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    net.maxpool = nn.Identity()
    return sure_of_class_0(net, net.fc)


def sure_of_class_0(net: nn.Module, last: nn.Module) -> nn.Module:
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.bias[0] += LEAD
    return net.eval()


def images(batch: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """x [batch, *shape] within [0, 1] and labels [batch], all of them the class that the networks above are sure of."""
    x = torch.rand(batch, *shape, generator=torch.Generator().manual_seed(1))
    return x, torch.zeros(batch, dtype=torch.int64)


class Falling(nn.Module):
    """A network round which PGD's progress decides: a row falls at the step that its first pixel announces.

    The first pixel is k / 4: k = 0 never falls, k = 1 to 4 falls after k steps of PGD from a random start (steps of a
    tenth of eps); other pixels start at 0.5. `net` does its work for every row and has next to no say.
    """

    def __init__(self, net: nn.Module, eps: float):
        super().__init__()
        self.net = net
        self.eps = eps
        # After a random start the pixel that lags most is at -eps, or nearly so; k steps bring it to (k / 10 - 1) eps.
        self.register_buffer("needed", torch.tensor([10.0, -0.95, -0.85, -0.75, -0.65]))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        moved = (flat[:, 1:] - 0.5) / self.eps
        made = torch.where(moved.amax(1) > 0.5, moved.amin(1), -2.0)  # the clean input has made none
        progress = moved.mean(1) + (made - moved.mean(1)).detach()  # so that every pixel has a gradient
        lead = 100 * (self.needed[(flat[:, 0] * 4).round().long()] - progress)
        logits = 0.001 * self.net(x)
        return torch.cat((logits[:, :1] + lead[:, None], logits[:, 1:]), 1)

    @staticmethod
    def inputs(fall_after: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """x [B, *shape] and labels [B] for rows that fall after so many steps [B] int64 (0 = never)."""
        x = torch.full((len(fall_after), *shape), 0.5)
        x.flatten(1)[:, 0] = fall_after / 4
        return x, torch.zeros(len(x), dtype=torch.int64)
