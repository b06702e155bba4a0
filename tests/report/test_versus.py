"""`dctkd compare` pairs two methods, or two experiments, by seed."""

import json

import numpy as np
import pytest
from scipy import stats

from dctkd.errors import InputError
from dctkd.report import compare
from dctkd.report.versus import compare_experiments, compare_methods

from .conftest import MadeUp


def top1(tree, method):
    edges = [json.loads(tree.edge(method, seed).read_text()) for seed in tree.seeds]
    return np.array([next(r["value"] for r in edge["results"] if r["metric"] == "top1_percent") for edge in edges])


def cell(table, row, key):
    column = [one.key for one in table.columns].index(key)
    return next(one for one in table.rows if one.name == row).cells[column]


@pytest.fixture
def two(tmp_path):
    """Return two experiments in one results folder; their values differ because their names do."""
    first = MadeUp(tmp_path, experiment="first").write()
    second = MadeUp(tmp_path, experiment="second", methods=("baseline", "kd"), seeds=(1, 2)).write()
    return first, second


def test_two_methods_are_compared_by_the_paired_t_test(small):
    table = compare_methods(small.folder, "at", "kd")
    expected = stats.ttest_rel(top1(small, "at"), top1(small, "kd"))
    interval = expected.confidence_interval(0.95)
    found = cell(table, "scenes wide__narrow", "a_minus_b_points")
    assert (found.ci_low, found.ci_high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert cell(table, "scenes wide__narrow", "p").value == pytest.approx(expected.pvalue)


def test_order_of_the_methods_is_the_sign_of_the_difference(small):
    a, b = (compare_methods(small.folder, *order) for order in (("at", "kd"), ("kd", "at")))
    row = "scenes wide__narrow"
    assert cell(a, row, "a_minus_b_points").value == pytest.approx(-cell(b, row, "a_minus_b_points").value)


def test_two_experiments_are_compared_over_common_methods_and_seeds(two):
    first, second = two
    table = compare_experiments(first.folder, second.folder)
    assert [row.name for row in table.rows] == ["scenes wide__narrow baseline", "scenes wide__narrow kd"]
    found = cell(table, "scenes wide__narrow kd", "a_minus_b_points")
    assert (found.n, found.value) == (2, pytest.approx((top1(first, "kd")[1:] - top1(second, "kd")).mean()))


def test_other_images_are_noted(two):
    first, second = two
    path = second.folder / "scenes" / "data.json"
    path.write_text(path.read_text().replace('"fingerprint": "f0', '"fingerprint": "e0'))
    notes = " ".join(compare_experiments(first.folder, second.folder).notes)
    assert "not have the same images in scenes" in notes


def test_several_datasets_are_told_together(wide):
    notes = compare_methods(wide.folder, "at", "baseline").notes
    assert notes[0].startswith("Over 9 blocks (dataset and pair), seeds averaged first: +")


def test_command_prints_markdown_and_finds_the_only_experiment(small):
    text = compare("at", "kd", small.root / "results")
    assert text.startswith("**madeup: A = at, B = kd**")
    assert "| scenes wide\\_\\_narrow" in text or "| scenes wide__narrow" in text


def test_folders_are_two_experiments(two):
    first, second = two
    assert compare(str(first.folder), str(second.folder)).startswith("**A = first, B = second**")


@pytest.mark.parametrize(
    ("a", "b", "experiment", "words"),
    [
        ("att", "kd", "first", "experiment first has no method 'att'; did you mean 'at'?"),
        ("at", "kd", None, "which experiment? Give --experiment NAME of those that were run: first, second"),
        ("at", "kd", "fist", "no experiment 'fist'; did you mean 'first'?"),
    ],
)
def test_mistakes_are_one_line_with_what_there_is(two, a, b, experiment, words):
    with pytest.raises(InputError) as error:
        compare(a, b, two[0].root / "results", experiment)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_nothing_in_common_is_an_error(two, tmp_path):
    other = MadeUp(tmp_path, experiment="third", datasets=("elsewhere",)).write()
    with pytest.raises(InputError, match="no dataset, pair and method is in both"):
        compare_experiments(two[0].folder, other.folder)


def test_experiments_of_engine_versions_whose_results_differ_are_not_compared(tmp_path):
    trees = [
        MadeUp(tmp_path, experiment=name, versions=lambda _, number=number: {"engine_results_version": number}).write()
        for name, number in (("old", 1), ("new", 2))
    ]
    with pytest.raises(
        InputError, match=r"old/.*new/.*versions of the engine.*\(1 and 2\).*run `snakemake --cores all"
    ):
        compare_experiments(trees[0].folder, trees[1].folder)


def test_experiments_may_differ_in_the_version_of_a_method_that_only_one_has(tmp_path):
    def version_of(number):
        return lambda run: {"method": {"method": run.method, "results_version": number if run.method == "at" else 1}}

    old = MadeUp(tmp_path, experiment="old", versions=version_of(1)).write()
    new = MadeUp(tmp_path, experiment="new", methods=("baseline", "kd"), versions=version_of(2)).write()
    rows = compare_experiments(old.folder, new.folder).rows
    assert [row.name.rpartition(" ")[2] for row in rows] == ["baseline", "kd"]
    newest = MadeUp(tmp_path, experiment="newest", versions=version_of(2)).write()
    with pytest.raises(InputError, match=r"old/.*/at/.*newest/.*/at/.*versions of the method at"):
        compare_experiments(old.folder, newest.folder)
