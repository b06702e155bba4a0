"""The critical difference diagram: ranks, bars and words are those of scipy and of Demsar's table."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import friedmanchisquare, rankdata

from dctkd.report.collect import gather
from dctkd.report.figures.critical_difference import draw_critical_difference
from dctkd.report.layout import TOP1, Group, Values
from tests.report.conftest import MadeUp

PAIRS = (("r50", "r18"), ("r50", "mobile"))
# 2.569 x sqrt(4 x 5 / (6 x 4)): q of Demsar 2006, table 5a, for 4 methods; 4 blocks.
CRITICAL_DIFFERENCE = 2.345
MANY = ("baseline", "kd", *(name for i in range(9) for name in (f"method{i}", f"method{i}+kd")))


@pytest.fixture(scope="module")
def blocks(tmp_path_factory):
    """Return a complete tree of four blocks and four methods that no test changes."""
    return MadeUp(tmp_path_factory.mktemp("blocks"), datasets=("a", "b"), pairs=PAIRS).write()


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Return a complete tree of nine blocks and twenty methods that no test changes."""
    pairs = (*PAIRS, ("r152", "r34"))
    root = tmp_path_factory.mktemp("many")
    return MadeUp(root, datasets=("a", "b", "c"), pairs=pairs, methods=MANY, seeds=(0,)).write()


def drawn(tree, *, partial=False):
    collected = gather(tree.folder, tree.store, partial=partial)
    values = Values(collected.frame)
    return draw_critical_difference(collected, values), values


def means_of(tree, values):
    """Return the accuracy of each method in each block, seeds averaged; shape (blocks, methods)."""
    groups = [Group(dataset, "__".join(pair)) for dataset in tree.datasets for pair in tree.pairs]
    return np.array(
        [
            [
                np.mean([point.value for point in values.of_seeds(group, method, TOP1).values()])
                for method in tree.methods
            ]
            for group in groups
        ]
    )


def labels_in(axes):
    return [text for text in axes.texts if "critical" not in text.get_text()]


def bars_in(axes):
    return [(min(line.get_xdata()), max(line.get_xdata())) for line in axes.lines if line.get_linewidth() == 2.5]


def words_of(figure):
    return figure.get_supxlabel().replace("\n", " ").replace("\u00a0", " ")


def test_every_method_has_a_label_with_its_mean_rank(blocks):
    figure, values = drawn(blocks)
    ranks = rankdata(-means_of(blocks, values), axis=1).mean(axis=0)
    shown = {text.get_text().replace("(", "").replace(")", "") for text in labels_in(figure.axes[0])}
    named = [sorted(text.split(), key=lambda word: word[0].isdigit()) for text in shown]
    assert sorted(named) == sorted([method, f"{rank:.2f}"] for method, rank in zip(blocks.methods, ranks, strict=True))


def test_bars_join_what_differs_by_less_than_the_critical_difference(blocks):
    figure, values = drawn(blocks)
    ranks = sorted(rankdata(-means_of(blocks, values), axis=1).mean(axis=0))
    bars = bars_in(figure.axes[0])
    assert bars
    for low, high in combinations(ranks, 2):
        is_joined = any(left <= low and high <= right for left, right in bars)
        assert is_joined == (high - low < CRITICAL_DIFFERENCE)


def test_words_give_blocks_friedmans_p_and_the_critical_difference(blocks):
    figure, values = drawn(blocks)
    p = friedmanchisquare(*means_of(blocks, values).T).pvalue
    words = words_of(figure)
    assert words.startswith("4 blocks;")
    assert f"p = {p:.3f}." in words
    assert "critical difference, 2.35" in words  # 2.345 with q to 4 digits
    assert "n = 3 seeds" in figure.get_suptitle()


def test_what_was_left_out_is_said(made_up):
    absent = frozenset({("kd", 0), ("kd", 1), ("kd", 2)})
    tree = made_up(datasets=("a", "b"), pairs=PAIRS, absent=absent)
    figure, _ = drawn(tree, partial=True)
    assert "Method kd is left out" in words_of(figure)
    assert len(labels_in(figure.axes[0])) == 3


def test_two_blocks_are_drawn_and_said_to_tell_nothing_apart(made_up):
    figure, _ = drawn(made_up(datasets=("a", "b")))
    assert "cannot tell any two methods apart" in words_of(figure)
    assert any("longer than the scale" in text.get_text() for text in figure.axes[0].texts)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"datasets": ("a", "b"), "methods": ("baseline", "kd")},
        {"datasets": ("a", "b"), "absent": frozenset((m, s) for m in ("baseline", "kd") for s in (0, 1, 2))},
    ],
    ids=["one block", "two methods", "two methods with runs"],
)
def test_with_too_little_a_sentence_says_so(made_up, changes):
    figure, _ = drawn(made_up(**changes), partial=True)
    figure.draw_without_rendering()
    assert "Too few results" in figure.texts[-1].get_text()


def test_labels_of_twenty_methods_do_not_touch(many):
    figure, _ = drawn(many)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 21
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
