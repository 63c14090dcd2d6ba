"""Rows that an attack lets go of, or that go on by a search of their own, cost what they cost alone and no more."""

from dataclasses import dataclass

import pytest
import torch
from test_every_attack import ElementwiseNet, task

import attacks
from attacks import CATALOG
from attacks.combine import Cascade, Restarts
from attacks.loop import Attack
from attacks.verdict import Verdict
from attacks.victim import decision

COMPACT = pytest.mark.parametrize("compact_below", [0.0, 0.75, 1.0])
THREAT = "linf:0.1"


def attacked(attack, threat=THREAT, **options):
    model = ElementwiseNet(192, 10)
    x, _ = task(model)
    return attacks.run(attack, model, x, model(x).argmax(1), threat, **options)


@dataclass(frozen=True)
class Asking:
    """Asks so many times about the clean inputs."""

    times: int

    def search(self, rows):
        for _ in range(self.times):
            yield decision(rows.x)


class LettingGo:
    """Asks ten times; row k is let go of after k questions."""

    def search(self, rows):
        for asked in range(10):
            rows.let_go(rows.ids <= asked)
            yield decision(rows.x)


@dataclass(frozen=True)
class Parting:
    """Asks ten times; row k goes on by `another` after k questions."""

    another: Attack

    def search(self, rows):
        for asked in range(10):
            rows.part(rows.ids == asked, self.another.search)
            yield decision(rows.x)


@COMPACT
def test_a_row_that_is_let_go_of_costs_what_it_had_cost(compact_below):
    result = attacked(LettingGo(), compact_below=compact_below)
    assert torch.equal(result.queries, 1 + torch.arange(len(result.queries)).clamp_max(10))
    assert not result.fooled.any()


def test_an_attack_that_lets_go_of_all_rows_is_not_asked_again():
    class Done:
        def search(self, rows):
            yield decision(rows.x)
            rows.let_go(torch.ones_like(rows.ids).bool())
            yield decision(rows.x)
            raise AssertionError("asked again")

    assert (attacked(Done()).queries == 2).all()


@COMPACT
def test_a_row_that_parts_costs_what_it_had_cost_and_what_comes_then(compact_below):
    result = attacked(Parting(Asking(5)), compact_below=compact_below)
    number = torch.arange(len(result.queries))
    assert torch.equal(result.queries, 1 + torch.where(number < 10, number + 5, 10))


@COMPACT
def test_a_row_may_part_again(compact_below):
    result = attacked(Parting(Parting(Asking(5))), compact_below=compact_below)
    number = torch.arange(len(result.queries))
    assert torch.equal(result.queries, 1 + torch.where(number < 10, 2 * number + 5, 10))


@COMPACT
def test_what_a_row_finds_after_parting_is_what_it_finds_alone(compact_below):
    pgd = attacks.pgd(steps=20)
    alone = attacked(pgd, "linf:0.02")
    result = attacked(Parting(pgd), "linf:0.02", compact_below=compact_below)
    here = torch.arange(len(result.fooled)) < 10
    assert alone.fooled[here].any()
    assert torch.equal(result.fooled, alone.fooled & here)
    assert torch.equal(result.x_adv[here], alone.x_adv[here])
    assert torch.equal(result.backwards[here], alone.backwards[here])
    later = torch.arange(len(result.fooled))
    assert torch.equal(result.step[result.fooled], (alone.step + later)[result.fooled])
    assert torch.equal(result.passes[result.fooled], (alone.passes + later)[result.fooled])


def test_rows_that_part_as_the_search_ends_go_on():
    class Ending:
        def search(self, rows):
            yield decision(rows.x)
            rows.part(rows.ids % 2 == 0, Asking(3).search)

    queries = attacked(Ending()).queries
    assert (queries[::2] == 5).all()
    assert (queries[1::2] == 2).all()


def test_a_budget_holds_after_parting():
    queries = attacked(Parting(Asking(100)), max_queries=8).queries
    assert (queries == 8).all()


def test_the_first_of_two_searches_that_claim_a_row_has_it():
    class Twice:
        def search(self, rows):
            rows.part(rows.ids < 4, Asking(3).search)
            rows.let_go(rows.ids < 8)
            assert torch.equal(rows.leaving, rows.ids < 8)
            yield decision(rows.x)

    queries = attacked(Twice()).queries
    assert queries[:9].tolist() == [4] * 4 + [1] * 4 + [2]


# -- in attacks made of attacks, what one has done with is the next one's --


@COMPACT
def test_a_cascade_goes_on_with_rows_that_are_let_go_of(compact_below):
    number = torch.arange(len(attacked(Asking(1)).queries))
    result = attacked(Cascade((LettingGo(), Asking(7), Asking(2))), compact_below=compact_below)
    assert torch.equal(result.queries, 1 + number.clamp_max(10) + 9)
    inner = Cascade((LettingGo(), Cascade((LettingGo(), Asking(7))), Asking(2)))
    assert torch.equal(attacked(inner).queries, 1 + 2 * number.clamp_max(10) + 9)


def test_restarts_go_on_with_rows_that_part():
    result = attacked(Restarts(Parting(Asking(5)), 3))
    number = torch.arange(len(result.queries))
    assert torch.equal(result.queries, 1 + 3 * torch.where(number < 10, number + 5, 10))


def test_what_the_verdict_lets_go_of_is_the_next_attacks():
    verdict, square = Verdict(queries=30), CATALOG["square"](queries=50)
    alone, both = attacked(verdict, "linf:0.003"), attacked(Cascade((verdict, square)), "linf:0.003")
    left = ~both.fooled
    assert left.any()
    assert torch.equal(both.queries[left], alone.queries[left] + 50)


def test_rows_that_are_let_go_of_as_one_search_ends_go_on_with_the_next_as_the_others_do():
    class Ending:
        def search(self, rows):
            yield decision(rows.x)
            rows.let_go(rows.ids % 2 == 0)

    assert (attacked(Cascade((Ending(), Asking(7), Asking(2)))).queries == 1 + 1 + 7 + 2).all()
    parting = Cascade((Parting(Asking(5)), Ending(), Asking(7)))
    number = torch.arange(len(attacked(Asking(1)).queries))
    assert torch.equal(attacked(parting).queries, 1 + torch.where(number < 10, number + 5, 10) + 1 + 7)
