"""Is what a layer of the victim gives what it computes, and is looking inside counted and refused as it must be?"""

import pytest
import torch
from torch import nn

import attacks
from attacks import Access, Goal, InputError, Victim
from attacks.loop import Search
from attacks.rows import Rows
from attacks.victim import AccessError, decision, features


class Looks:
    """Reads a layer `times` times, and proposes nothing but the clean input."""

    def __init__(self, layer: str, times: int = 1):
        self.layer, self.times, self.seen = layer, times, []

    def search(self, rows: Rows) -> Search:
        for _ in range(self.times):
            self.seen.append((yield features(rows.x, self.layer)).features)
        yield decision(rows.x)


class Pair(nn.Module):
    def forward(self, x):
        return x, x


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.Tanh())
        self.head, self.unused, self.pair, self.rows = nn.Linear(6, 3), nn.Identity(), Pair(), 0

    def forward(self, x):
        self.rows += len(x)
        return self.head(self.pair(self.body(x))[0])


def task():
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        net, x = Net().eval(), torch.rand(7, 4)
    with torch.no_grad():
        labels = net(x).argmax(1)
    net.rows = 0
    return net, x, labels


@pytest.mark.parametrize("options", [{}, {"fold_batchnorm": True}, {"precision": "bf16"}])
def test_an_attack_is_given_what_the_layer_of_the_model_itself_computes(options):
    net, x, labels = task()
    looks = Looks("body.1")
    attacks.run(looks, Victim(net, **options), x, labels, "linf:0.1")
    assert torch.equal(looks.seen[0], net.body(x))
    assert not looks.seen[0].requires_grad
    assert not net.body[1]._forward_hooks


@pytest.mark.parametrize("times", [1, 3])
def test_each_look_is_a_query_and_no_pass_is_hidden(times):
    net, x, labels = task()
    result = attacks.run(Looks("head", times), net, x, labels, "linf:0.1")
    assert result.queries.tolist() == [times + 2] * len(x)
    assert int(result.queries.sum()) == net.rows
    assert int(result.backwards.sum()) == 0


def test_looks_stop_where_the_queries_are_spent():
    net, x, labels = task()
    looks = Looks("head", 5)
    result = attacks.run(looks, net, x, labels, "linf:0.1", max_queries=3)
    assert len(looks.seen) == 2
    assert result.queries.tolist() == [3] * len(x)


def test_who_does_not_show_gradients_does_not_show_its_inside():
    net, x, labels = task()
    with pytest.raises(AccessError, match="GRADIENT"):
        attacks.run(Looks("head"), Victim(net, Access.SCORES), x, labels, "linf:0.1")


@pytest.mark.parametrize(
    ("layer", "said"),
    [("bodie.1", "Did you mean 'body.1'"), ("unused", "takes no part"), ("pair", "gives tuple")],
)
def test_a_layer_that_cannot_be_read_is_refused(layer, said):
    net, x, labels = task()
    with pytest.raises(InputError, match=said):
        attacks.run(Looks(layer), net, x, Goal(labels), "linf:0.1")
    assert not any(module._forward_hooks for module in net.modules())
