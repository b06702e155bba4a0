"""Tables of comparisons against scipy and statsmodels, on the published files of made-up trees."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from dctkd.report.collect import gather
from dctkd.report.layout import Values
from dctkd.report.tables.comparison import comparison_tables
from dctkd.report.tables.rendering import DASH

METHODS = ("baseline", "kd", "at", "at+kd")


def tables_of(tree, *, partial=False):
    collected = gather(tree.folder, tree.store, partial=partial)
    return comparison_tables(collected, Values(collected.frame))


def cell(table, row, key):
    column = next(i for i, one in enumerate(table.columns) if one.key.endswith(key))
    return next(one for one in table.rows if one.name == row).cells[column]


def top1(tree, method, dataset=None, pair=None):
    edges = [json.loads(tree.edge(method, seed, dataset, pair).read_text()) for seed in tree.seeds]
    return np.array([next(r["value"] for r in edge["results"] if r["metric"] == "top1_percent") for edge in edges])


def holm(p_values):
    return dict(zip(p_values, multipletests(list(p_values.values()), method="holm")[1], strict=True))


def test_p_against_the_baseline_is_the_paired_t_test_corrected_over_methods(small):
    (table,) = tables_of(small)
    expected = holm({m: stats.ttest_rel(top1(small, m), top1(small, "baseline")).pvalue for m in METHODS[1:]})
    assert {m: cell(table, m, "baseline_p_holm").value for m in METHODS[1:]} == pytest.approx(expected)
    assert cell(table, "baseline", "baseline_p_holm").text == DASH


def test_p_against_the_best_is_corrected_over_all_pairs(small):
    (table,) = tables_of(small)
    best = max(METHODS, key=lambda m: top1(small, m).mean())
    pairs = [(a, b) for i, a in enumerate(METHODS) for b in METHODS[i + 1 :]]
    corrected = holm({frozenset(p): stats.ttest_rel(top1(small, p[0]), top1(small, p[1])).pvalue for p in pairs})
    others = [m for m in METHODS if m != best]
    assert [cell(table, m, "best_p_holm").value for m in others] == pytest.approx(
        [corrected[frozenset((m, best))] for m in others]
    )
    assert cell(table, best, "minus_best_points").text == "best"


def right(tree, method, seed):
    found = pq.read_table(tree.run_folder(method, seed).path / "predictions.parquet")
    return found["prediction"].to_numpy() == found["target"].to_numpy()


def test_mcnemar_is_the_largest_of_the_seeds_each_corrected_over_methods(small):
    (table,) = tables_of(small)
    by_seed = []
    for seed in small.seeds:
        base = right(small, "baseline", seed)
        p = {}
        for method in METHODS[1:]:
            own = right(small, method, seed)
            counts = [[(own & base).sum(), (own & ~base).sum()], [(base & ~own).sum(), (~own & ~base).sum()]]
            p[method] = mcnemar(counts, exact=True).pvalue
        by_seed.append(holm(p))
    expected = {method: max(p[method] for p in by_seed) for method in METHODS[1:]}
    assert {m: cell(table, m, "mcnemar_p_holm_max").value for m in METHODS[1:]} == pytest.approx(expected)


def test_note_says_how_strict_the_comparison_with_the_best_is(small):
    notes = " ".join(tables_of(small)[-1].notes)
    t = stats.t.isf(0.05 / 6 / 2, df=2)
    assert f"with n = 3 and 6 pairs the first p falls below 0.05 at {t:.0f} standard errors" in notes


def test_one_seed_says_that_there_is_no_test(made_up):
    (table,) = tables_of(made_up(seeds=(0,)))
    assert cell(table, "kd", "baseline_p_holm").text == "n = 1, no test"
    assert cell(table, "kd", "minus_baseline_points").ci_low is None
    assert cell(table, "kd", "mcnemar_p_holm_max").value is not None  # these two networks can be compared


def test_missing_predictions_leave_a_dash(made_up):
    tree = made_up()
    for seed in tree.seeds:
        (tree.run_folder("kd", seed).path / "predictions.parquet").unlink()
    (table,) = tables_of(tree)
    assert cell(table, "kd", "mcnemar_p_holm_max").text == DASH
    assert cell(table, "at", "mcnemar_p_holm_max").value is not None


def test_method_that_was_not_run_has_dashes(made_up):
    (table,) = tables_of(made_up(absent=frozenset(("kd", seed) for seed in (0, 1, 2))), partial=True)
    assert {one.text for one in next(row for row in table.rows if row.name == "kd").cells} == {DASH}


def test_blocks_are_datasets_and_pairs_with_seeds_averaged_first(wide):
    table = tables_of(wide)[0]
    means = {
        method: np.array(
            [top1(wide, method, dataset, "__".join(pair)).mean() for dataset in wide.datasets for pair in wide.pairs]
        )
        for method in METHODS
    }
    differences = {method: means[method] - means["baseline"] for method in METHODS[1:]}
    ranks = stats.rankdata(-np.array([means[method] for method in METHODS]), axis=0).mean(axis=1)
    corrected = holm({m: stats.wilcoxon(differences[m], method="exact").pvalue for m in METHODS[1:]})
    for method, rank in zip(METHODS, ranks, strict=True):
        assert cell(table, method, "mean_rank").value == pytest.approx(rank)
        assert cell(table, method, "blocks/top1_percent").value == pytest.approx(means[method].mean())
    for method in METHODS[1:]:
        assert cell(table, method, "wilcoxon_p_holm").value == pytest.approx(corrected[method])
        interval = stats.ttest_1samp(differences[method], 0).confidence_interval(0.95)
        found = cell(table, method, "blocks/minus_baseline_points")
        assert (found.ci_low, found.ci_high) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_three_blocks_say_that_wilcoxon_cannot_tell(made_up):
    tables = tables_of(made_up(datasets=("a", "b", "c")))
    assert cell(tables[0], "kd", "wilcoxon_p_holm").text == "no test"
    assert "3 blocks give no p below 0.25" in " ".join(tables[-1].notes)


def test_note_says_when_no_p_can_pass_the_correction(made_up):
    methods = ("baseline", *(f"at-{number}" for number in range(14)))
    weights = {name: float(number + 1) for number, name in enumerate(methods[1:])}
    tree = made_up(
        datasets=("a", "b", "c"), pairs=(("w", "n"), ("w", "m")), methods=methods, weights=weights, seeds=(0,)
    )
    tables = tables_of(tree)
    num_tests = sum(cell(tables[0], row.name, "wilcoxon_p_holm").value is not None for row in tables[0].rows)
    told = f"6 blocks can give is 0.031; after Holm's correction for {num_tests} methods {num_tests / 32:.2g}, so none"
    assert num_tests > 1
    assert told in " ".join(tables[-1].notes)


def test_incomplete_blocks_are_left_out_and_named(made_up):
    tree = made_up(datasets=("a", "b", "c"))
    for seed in tree.seeds:
        tree.edge("kd", seed, "b").unlink()
    (tree.store).rename(tree.root / "elsewhere")
    tables = tables_of(tree, partial=True)
    assert "2 blocks" in tables[0].title
    assert "Block b is left out: it misses kd." in tables[-1].notes
