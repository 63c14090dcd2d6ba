"""Is BLEU what sacrebleu says, and are self-BLEU, distinct-n and perplexity what can be counted out?"""

import math
import random

import pytest
import torch
from sacrebleu.metrics.bleu import BLEU

from advgan.sequences.bleu import ORDERS, References, bleu, distinct, nearest, self_bleu
from advgan.sequences.lstm import Lstm
from advgan.sequences.prose import Ruler, perplexity, spaced
from advgan.sequences.text import END, UNKNOWN
from attacks import InputError

Lines = list[list[int]]


def drawn(n: int, seed: int) -> Lines:
    luck = random.Random(seed)
    return [[luck.randrange(2, 7) for _ in range(luck.randrange(1, 14))] for _ in range(n)]


def theirs(lines: Lines, streams: list[Lines], n: int) -> float:
    """streams: lists of references, one for each line."""
    metric = BLEU(max_ngram_order=n, smooth_method="none", tokenize="none", effective_order=False)
    texts = [[" ".join(map(str, line)) for line in each] for each in [lines, *streams]]
    return metric.corpus_score(texts[0], texts[1:]).score / 100


@pytest.mark.parametrize("seed", range(4))
def test_bleu_is_sacrebleus(seed: int):
    lines, references = drawn(20, seed), drawn(40, seed + 100)
    found = bleu(lines, References.of(references))
    assert set(found) == set(ORDERS)
    for n in ORDERS:
        assert found[n].value == pytest.approx(theirs(lines, [[each] * len(lines) for each in references], n))


def test_the_error_falls_as_the_root_of_the_number_of_lines():
    references = References.of(drawn(40, 0))
    few, many = (bleu(drawn(n, 1), references)[4].error for n in (100, 1600))
    assert few / many == pytest.approx(4, rel=0.3)


@pytest.mark.parametrize("seed", range(4))
def test_self_bleu_is_sacrebleus_with_all_other_lines(seed: int):
    lines = drawn(20, seed)
    others = [[lines[(k + away) % len(lines)] for k in range(len(lines))] for away in range(1, len(lines))]
    found = self_bleu(lines)
    for n in ORDERS:
        assert found[n].value == pytest.approx(theirs(lines, others, n))


def test_lines_that_are_short_cost_brevity():
    references = References.of([[2, 3, 4, 5, 6, 7, 8, 9]])
    assert bleu([[2, 3, 4, 5]], references)[2].value == pytest.approx(math.exp(1 - 8 / 4))
    assert [nearest(each, [2, 4, 8]) for each in (1, 3, 4, 5, 6, 7, 9)] == [2, 2, 4, 4, 4, 8, 8]


def test_copies_score_one_and_strangers_nothing():
    lines = drawn(10, 0)
    assert bleu(lines, References.of(lines))[5].value == pytest.approx(1)
    assert self_bleu([lines[0]] * 4 + [[2] * 6])[2].value < 1
    assert bleu([[50, 51, 52, 53, 54, 55]], References.of(lines))[2].value == 0


def test_orders_that_no_line_is_long_enough_for_are_left_out():
    assert set(bleu([[2, 3, 4], []], References.of([[2, 3, 4]]))) == {2, 3}
    assert set(self_bleu([[], []])) == set()
    assert distinct([[2]], 2) is None


def test_distinct_counts_different_ngrams():
    assert distinct([[2, 3, 2, 3], [2, 3]], 2) == 2 / 4
    assert distinct([[2, 3, 2, 3], [2, 3]], 1) == 2 / 6


def test_nothing_to_compare_with_is_refused():
    with pytest.raises(InputError, match="no"):
        References.of([])
    with pytest.raises(InputError, match="there is 1"):
        self_bleu([[2, 3]])


# Perplexity, and the ruler


def even(vocabulary: int) -> Lstm:
    """Every token is as likely as any other."""
    return Lstm(vocabulary, 2, 3)


def test_perplexity_of_an_even_guess_is_the_vocabulary():
    tokens = torch.tensor([[2, 3, END, END], [4, END, END, END]])
    assert perplexity(even(7), tokens) == pytest.approx({"perplexity": 7, "perplexity_error": 0, "unknown": 0})


def test_perplexity_counts_a_line_with_its_end_and_no_padding_and_no_unknown_token():
    model = even(5)
    with torch.no_grad():
        model.out_bias.copy_(torch.tensor([0.5, 0.1, 0.2, 0.15, 0.05]).log())
    found = perplexity(model, torch.tensor([[2, UNKNOWN, 3, END, END], [3, END, END, END, END]]))
    counted = [0.2, 0.15, 0.5, 0.15, 0.5]
    assert found["perplexity"] == pytest.approx(math.prod(counted) ** (-1 / 5), rel=1e-5)
    assert found["unknown"] == pytest.approx(1 / 6)
    assert found["perplexity_error"] > 0
    with pytest.raises(InputError, match="No token"):
        perplexity(model, torch.tensor([[UNKNOWN, UNKNOWN]]))


def test_the_ruler_finds_copies_and_measures_real_lines_alike():
    training = torch.tensor([[2, 3, 4, END], [2, 4, END, END], [3, 3, 3, END], [3, 4, 2, END]])
    ruler = Ruler(training, torch.tensor([[4, 3, 2, END], [4, 2, END, END]]))
    only = even(5)
    with torch.no_grad():
        only.out_bias.copy_(torch.tensor([-50.0, -50, -50, 50, -50]))
    found, real = ruler.measure(only), ruler.real()
    assert (found["copied"], found["different"]) == (0, 0.25)  # 3 3 3 3, four times
    assert found["self_bleu_2"] == pytest.approx(1)
    assert (real["different"], real["distinct_1"]) == (1, 3 / 11)
    assert "copied" not in real
    assert set(real) - set(found) == set()


def test_what_is_taken_of_data_in_an_order_is_from_all_over_it():
    rows = torch.arange(10)[:, None]
    assert spaced(rows, 4)[:, 0].tolist() == [0, 3, 6, 9]
    assert spaced(rows, 20) is rows
