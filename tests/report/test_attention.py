"""What is read of the evaluation files, which images are picked, and how a rank correlation is bounded."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dctkd.errors import InputError
from dctkd.report.attention import AttentionFiles, mean_overlap, pick_images, stage_number, students_of
from dctkd.report.collect import gather
from dctkd.report.figures.correlation import rank_correlation
from dctkd.report.layout import Group

from .attention_files import folder_of, write_maps, write_per_image, write_spectra

GROUP = Group("scenes", "wide__narrow")


def a_frame(values):
    rows = [(index, stage, value) for (index, stage), value in values.items()]
    return pd.DataFrame(rows, columns=["index", "stage", "value"])


def digest_of_run(tree, method="kd", seed=0):
    return tree.run_folder(method, seed).digest


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        ({1: 0.2, 2: 0.9, 3: 0.5}, {"best": 2, "median": 3, "worst": 1}),
        ({1: 0.2, 2: 0.9, 3: 0.5, 4: 0.7}, {"best": 2, "median": 3, "worst": 1}),
        ({7: 0.5}, {"best": 7, "median": 7, "worst": 7}),
        ({}, {}),
    ],
    ids=["odd", "lower-of-even", "one", "none"],
)
def test_picks_are_best_median_and_worst(overlap, expected):
    assert pick_images(overlap) == expected


def test_equal_images_are_picked_by_index_whatever_their_order():
    overlap = {9: 0.9, 2: 0.1, 5: 0.9, 4: 0.5, 1: 0.1, 8: 0.5}
    assert pick_images(overlap) == {"best": 5, "median": 4, "worst": 1}


def test_overlap_is_the_mean_over_stages_and_students():
    first = a_frame({(3, "stage1"): 0.1, (3, "stage2"): 0.3, (8, "stage1"): 0.5, (8, "stage2"): 0.7})
    second = a_frame({(8, "stage1"): 0.9, (8, "stage2"): 0.7, (3, "stage1"): 0.4, (3, "stage2"): 0.0})
    assert mean_overlap([first, second]) == pytest.approx({3: 0.8 / 4, 8: 2.8 / 4})


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_image_without_a_finite_value_of_every_student_is_no_candidate(odd):
    first = a_frame({(3, "stage1"): 0.1, (8, "stage1"): 0.5, (9, "stage1"): 0.3})
    second = a_frame({(3, "stage1"): odd, (8, "stage1"): 0.7})
    assert mean_overlap([first, second]) == pytest.approx({8: 0.6})


def test_stage_without_any_finite_value_leaves_the_mean_of_the_others():
    frame = a_frame({(3, "stage1"): 0.1, (3, "stage2"): math.nan})
    assert mean_overlap([frame]) == pytest.approx({3: 0.1})


def test_without_students_there_is_no_overlap():
    assert mean_overlap([]) == {}


def test_stages_are_ordered_by_number():
    assert sorted(["stage10", "stage9", "stage1"], key=stage_number) == ["stage1", "stage9", "stage10"]


def test_missing_files_read_as_nothing(small):
    for files in (AttentionFiles(small.store), AttentionFiles(None)):
        digest = digest_of_run(small)
        assert files.candidates(digest) == ()
        assert files.spectra(digest) is files.maps(digest, [0]) is files.per_image(digest, "ssim", [0]) is None


def test_per_image_values_are_those_of_the_student_the_metric_and_the_images_asked_for(made_up):
    tree = made_up()
    write_per_image(folder_of(tree, "kd", 0), {(5, "stage1"): 0.5, (2, "stage1"): 0.25, (7, "stage1"): 0.75})
    frame = AttentionFiles(tree.store).per_image(digest_of_run(tree), "ssim", [7, 2])
    assert frame.to_dict("list") == {
        "image": ["val/00002.jpg", "val/00007.jpg"],
        "index": [2, 7],
        "stage": ["stage1"] * 2,
        "value": [0.25, 0.75],
    }


def test_maps_are_those_of_the_images_in_the_order_asked_for(made_up):
    tree = made_up()
    write_maps(folder_of(tree, "kd", 0), [4, 6, 9], look=3)
    files = AttentionFiles(tree.store)
    assert files.candidates(digest_of_run(tree)) == (4, 6, 9)
    maps = files.maps(digest_of_run(tree), [9, 4])
    assert maps.student["stage1"][:, 0, 0] == pytest.approx([23 / 255, 3 / 255])
    assert maps.teacher["stage4"][:, 0, 0] == pytest.approx([202 / 255, 200 / 255])
    assert maps.images[:, 0, 0, 0].tolist() == [2, 0]
    assert [bool(ids.any()) for ids in maps.annotations] == [False, True]
    assert list(maps.student) == ["stage1", "stage2", "stage3", "stage4"]


def test_dataset_without_annotations_has_none(made_up):
    tree = made_up()
    write_maps(folder_of(tree, "kd", 0), [4], annotated=False)
    assert AttentionFiles(tree.store).maps(digest_of_run(tree), [4]).annotations is None


def test_image_that_was_not_kept_is_an_error_that_names_it(made_up):
    tree = made_up()
    write_maps(folder_of(tree, "kd", 0), [4])
    with pytest.raises(InputError, match=r"maps\.npz: no maps of images \[5\]"):
        AttentionFiles(tree.store).maps(digest_of_run(tree), [4, 5])


def test_spectra_are_arrays_by_network_and_stage(made_up):
    tree = made_up()
    write_spectra(folder_of(tree, "kd", 0), {"stage1": [0.0, 2.0]}, {"stage1": [0.0, 4.0]})
    found = AttentionFiles(tree.store).spectra(digest_of_run(tree))
    assert found["student"]["stage1"].tolist() == [0.0, 2.0]
    assert found["teacher"]["stage1"].tolist() == [0.0, 4.0]


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("maps.npz", lambda files, digest: files.candidates(digest)),
        ("per_image.parquet", lambda files, digest: files.per_image(digest, "ssim", [0])),
        ("spectra.json", lambda files, digest: files.spectra(digest)),
    ],
)
def test_file_that_is_not_whole_is_an_error_that_says_what_to_do(made_up, name, read):
    tree = made_up()
    folder = folder_of(tree, "kd", 0)
    folder.mkdir(parents=True)
    (folder / name).write_bytes(b"[PK half a file")
    with pytest.raises(InputError, match=rf"{name}: not whole.*run `dctkd store verify --mend"):
        read(AttentionFiles(tree.store), digest_of_run(tree))


def test_students_are_finished_ones_in_the_order_of_the_config(made_up):
    tree = made_up(methods=("kd", "baseline"), failures={("kd", 1): "diverged"})
    collected = gather(tree.folder, tree.store)
    assert list(students_of(collected, GROUP)) == [("kd", 0), ("kd", 2), *(("baseline", seed) for seed in range(3))]
    assert students_of(collected, GROUP, 0) == {
        (method, 0): digest_of_run(tree, method) for method in ("kd", "baseline")
    }


def some_pairs(n=20):
    draw = np.random.default_rng(3)
    x = draw.normal(size=n).round(1)  # rounded: some values tie
    return x, (x + draw.normal(size=n)).round(1)


def test_correlation_is_that_of_scipy_with_ties():
    x, y = some_pairs()
    assert len(set(x)) < len(x)
    found = rank_correlation(list(x), list(y))
    assert found.rho == pytest.approx(stats.spearmanr(x, y).statistic, rel=1e-12)
    assert found.n == 20


def test_interval_is_the_percentile_bootstrap_of_scipy():
    x, y = some_pairs()
    found = rank_correlation(list(x), list(y))

    def rho(a, b):
        return stats.spearmanr(a, b).statistic

    drawn = stats.bootstrap((x, y), rho, n_resamples=999, paired=True, vectorized=False, method="percentile", rng=1)
    low, high = drawn.confidence_interval
    # 999 resamples place a 2.5 % quantile of this width to about 0.02.
    assert (found.ci_low, found.ci_high) == (pytest.approx(low, abs=0.05), pytest.approx(high, abs=0.05))


def test_interval_is_the_same_each_time():
    x, y = some_pairs()
    assert rank_correlation(x, y) == rank_correlation(x, y)


def test_resamples_of_a_single_pair_do_not_spoil_the_interval():
    found = rank_correlation([1, 2, 3, 4, 5], [2, 1, 4, 3, 5])
    assert -1 <= found.ci_low <= found.rho <= found.ci_high <= 1


@pytest.mark.parametrize(("x", "y"), [([1, 2], [1, 2]), ([], []), ([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [4, 4, 4])])
def test_too_few_or_constant_pairs_have_no_correlation(x, y):
    assert rank_correlation(x, y) is None


@pytest.mark.parametrize(("x", "y"), [([1, 2, 3], [1, 2]), ([1, math.nan, 3], [1, 2, 3])])
def test_unequal_or_infinite_pairs_are_an_error(x, y):
    with pytest.raises(ValueError, match="equally many finite numbers"):
        rank_correlation(x, y)
