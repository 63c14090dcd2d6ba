"""Does every output of a network become a point of the threat set, smoothly, and can a gradient always come back?"""

from dataclasses import replace

import pytest
import torch

import attacks
from advgan.bounding import check_threat, inside
from attacks import InputError, ThreatModel

THREATS = ("linf:0.1", "linf:8/255", "linf:0.7", "linf:inf", "l2:0.5", "l2:40", "l1:3", "l1:inf")

every_threat = pytest.mark.parametrize("text", THREATS)


def images(rows: int = 6, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Black and white pixels among others."""
    x = torch.rand(rows, 3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return (1.6 * x - 0.3).clamp(0, 1)


def raw(like: torch.Tensor, scale: float) -> torch.Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(1), dtype=like.dtype) * scale


@every_threat
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [0.0, 1e-20, 0.3, 5.0, 1e4, 1e18])
def test_whatever_the_network_says_is_inside_as_the_loop_measures_it(text, dtype, scale):
    x = images(dtype=dtype)
    threat = ThreatModel.parse(text).around(x)
    size = threat.size(inside(threat, raw(x, scale)))
    assert size.isfinite().all()  # inf is what lies outside, with no slack
    assert scale or (size == 0).all()  # nothing said is nothing done


@every_threat
def test_a_loud_network_uses_nearly_all_of_the_ball_that_the_box_leaves(text):
    x = images()
    threat = ThreatModel.parse(text).around(x)
    said = raw(x, 100.0)
    reached = threat.size(inside(threat, said))
    furthest = threat.size(threat.reach(said.sign() if threat.norm.name == "linf" else said))
    assert (reached > 0.3 * furthest).all()
    if threat.norm.name == "linf":
        assert (reached > 0.98 * furthest).all()


@every_threat
def test_no_coordinate_is_ever_deaf_to_what_brings_it_back(text):
    """Black pixels that were pushed down, and outputs far beyond where tanh is flat in float32."""
    x = images()
    threat = ThreatModel.parse(text).around(x)
    for scale in (0.1, 3.0, 30.0):
        said = raw(x, scale).requires_grad_()
        moved = inside(threat, said)
        back = (moved - x).sign()
        if threat.norm.name == "linf":
            back = said.detach().sign()  # also where the wall stopped it
            (grad,) = torch.autograd.grad((moved * back).sum(), said)
            assert (grad * back > 0).all()
        else:  # the radius is shared: what one coordinate gains the others lose
            (grad,) = torch.autograd.grad((moved * raw(x, 1.0).flip(0)).sum(), said)
            assert (grad.flatten(1).norm(dim=1) > 0).all()


def test_descent_through_the_wall_brings_a_black_pixel_up_and_leaves_it_alone_where_it_is_wanted():
    x = torch.zeros(1, 1)
    threat = attacks.linf(0.3).around(x)
    for wanted, reached in ((0.2, 0.2), (-1.0, 0.0)):
        said = torch.full((1, 1), -2.0, requires_grad=True)
        optimiser = torch.optim.Adam([said], 0.05)
        for _ in range(300):
            optimiser.zero_grad()
            (inside(threat, said) - wanted).square().sum().backward()
            optimiser.step()
        torch.testing.assert_close(inside(threat, said).detach(), torch.tensor([[reached]]), atol=1e-3, rtol=0)
        assert float(said.detach()) >= -2.0 - 1e-6  # nothing drove it further out


@every_threat
def test_masks_grids_and_an_eps_for_each_row_are_kept(text):
    x = (images() * 255).round() / 255
    threat = ThreatModel.parse(text)
    mask = torch.zeros(1, 3, 5, 4)
    mask[..., :2] = 1
    moved = inside(replace(threat, mask=mask).around(x), raw(x, 3.0))
    assert torch.equal(moved[..., 2:], x[..., 2:])
    assert not torch.equal(moved[..., :2], x[..., :2])
    grid = replace(threat, levels=255).around(x)
    assert grid.size(grid.shown(inside(grid, raw(x, 3.0)))).isfinite().all()
    eps = torch.linspace(0, 0.5, len(x), dtype=torch.float64)
    rows = replace(threat, eps=eps).around(x)
    size = rows.size(inside(rows, raw(x, 3.0)))
    assert (size <= eps).all()
    assert size[0] == 0


def test_on_the_8_bit_grid_a_loud_network_uses_all_levels():
    x = torch.full((1, 10), 128 / 255)
    threat = attacks.linf(8 / 255, levels=255).around(x)
    levels = ((threat.shown(inside(threat, raw(x, 100.0))) - x) * 255).round().abs()
    assert (levels == 8).all()


@pytest.mark.parametrize("text", ["linf:0.1", "l2:0.5", "l1:3"])
def test_the_gradient_is_that_of_a_smooth_map_where_no_wall_is_met(text):
    x = torch.full((2, 6), 0.5, dtype=torch.float64)
    threat = ThreatModel.parse(text).around(x)
    said = raw(x, 0.5).requires_grad_()
    assert torch.autograd.gradcheck(lambda said: inside(threat, said), said)


def test_a_perturber_has_no_ball_of_radius_0_and_none_of_l0():
    for text, says in (("linf:0", "eps is 0"), ("l0:5", "linf, l2, l1")):
        with pytest.raises(InputError, match=says):
            check_threat(ThreatModel.parse(text))
