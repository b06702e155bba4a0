"""The attainability check against brute force in decimals, and what it says of the published files."""

import csv
import itertools
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dctkd.report.attainability import (
    attainable_share,
    examine,
    is_attainable,
    is_attainable_by_released_meter,
)
from dctkd.report.published import REPORTED
from dctkd.report.verdicts import released_top1_percent

FOLDER = Path(__file__).parents[2] / REPORTED


def published(name, **wanted):
    lines = csv.DictReader((FOLDER / name).read_text().splitlines())
    return [line["value"] for line in lines if all(line[key] == value for key, value in wanted.items())]


def attainable_by_brute_force(text, means, half=Decimal("0.005")):
    return any(abs(mean - Decimal(text)) <= half for mean in means)


@pytest.mark.parametrize("num_images", [1, 3, 7, 30, 200, 333, 2000])
def test_attainable_is_as_all_counts_say(num_images):
    means = [Decimal(100 * k) / num_images for k in range(num_images + 1)]
    for hundredths in range(0, 10001, 1 if num_images < 100 else 37):
        text = f"{hundredths / 100:.2f}"
        assert is_attainable(text, num_images) == attainable_by_brute_force(text, means), text


@pytest.mark.parametrize("text", ["3.12", "3.13"])
def test_half_way_between_two_roundings_counts_for_both(text):
    assert is_attainable(text, 32)  # 100 / 32 = 3.125


def test_digits_of_the_text_count():
    assert is_attainable("33.3", 3)
    assert not is_attainable("33.30", 3)  # 33.33


def test_more_than_all_images_is_not_attainable():
    assert not is_attainable("100.05", 2000)


@pytest.mark.parametrize(("num_images", "batch_size"), [(5, 2), (11, 4), (12, 4), (3, 8), (23, 16)])
def test_attainable_by_the_released_meter_is_as_all_counts_per_batch_say(num_images, batch_size):
    full, last = divmod(num_images, batch_size)
    batches = [*[batch_size] * full, *([last] if last else [])]
    means = {
        sum(Decimal(right) / size for right, size in zip(rights, batches, strict=True)) * 100 / len(batches)
        for rights in itertools.product(*(range(size + 1) for size in batches))
    }
    for hundredths in range(0, 10001, 7):
        text = f"{hundredths / 100:.2f}"
        found = is_attainable_by_released_meter(text, num_images, batch_size)
        assert found == attainable_by_brute_force(text, means), text


def test_released_meter_of_any_predictions_is_attainable_by_it():
    draw = np.random.default_rng(0)
    for _ in range(50):
        is_right_N = draw.random(67) < draw.random()
        assert is_attainable_by_released_meter(f"{released_top1_percent(is_right_N, 16):.2f}", 67, 16)


@pytest.mark.parametrize("text", ["58,34", "-1.00", "5e1", "", "nan", "58.3 ", ".5"])
def test_only_plain_decimal_numbers_are_taken(text):
    with pytest.raises(ValueError, match="plain decimal"):
        is_attainable(text, 2000)


@pytest.mark.parametrize(("num_images", "batch_size"), [(0, 1), (1, 0)])
def test_counts_below_one_are_refused(num_images, batch_size):
    with pytest.raises(ValueError, match="at least 1"):
        is_attainable_by_released_meter("50.00", num_images, batch_size)


@pytest.mark.parametrize(
    ("table", "dataset", "metric", "num_images", "num_impossible", "num_values"),
    [
        ("README Results", "ADE20K", "Top1", 2000, 34, 45),
        ("README Results", "MIT67", "Top1", 1340, 36, 39),
        ("README Results", "SUN397", "Top1", 19850, 0, 39),
        ("alpha ablation", "ADE20K", "Top1", 2000, 13, 15),
        ("alpha ablation", "ADE20K", "Top5", 2000, 11, 15),
    ],
)
def test_published_accuracies_that_no_number_of_images_gives(
    table, dataset, metric, num_images, num_impossible, num_values
):
    values = published("p1.csv", table=table, dataset=dataset, metric=metric)
    means = [Decimal(100 * k) / num_images for k in range(num_images + 1)]
    by_brute_force = tuple(value for value in values if not attainable_by_brute_force(value, means))
    found = examine(values, num_images)
    assert (found.impossible, len(found.impossible)) == (by_brute_force, num_impossible)
    assert found.num_values == num_values


def test_twelve_of_fourteen_weights_have_an_impossible_accuracy():
    lines = csv.DictReader((FOLDER / "p1.csv").read_text().splitlines())
    values = [line["value"] for line in lines if line["method"].startswith("DCT alpha=") and line["metric"] == "Top1"]
    found = examine(values, 2000)
    assert (len(found.impossible), found.num_values) == (12, 14)


@pytest.mark.parametrize(("num_images", "decimals"), [(2000, 2), (1340, 2), (32, 2), (7, 1), (3, 0)])
def test_share_is_that_of_all_numbers_with_so_many_digits(num_images, decimals):
    texts = [f"{Decimal(n) / 10**decimals:.{decimals}f}" for n in range(100 * 10**decimals + 1)]
    possible = sum(is_attainable(text, num_images) for text in texts)
    assert attainable_share(num_images, decimals) == Fraction(possible, len(texts))


def test_published_accuracies_of_p1_are_possible_about_as_often_as_random_numbers():
    ade20k, mit67 = (published("p1.csv", table="README Results", dataset=name) for name in ("ADE20K", "MIT67"))
    found = [examine(ade20k, 2000), examine(mit67, 1340)]
    assert [e.num_values - len(e.impossible) for e in found] == [11, 3]
    assert [float(e.num_possible_by_chance) for e in found] == pytest.approx([9.0, 5.2], abs=0.05)


@pytest.mark.parametrize(("num_images", "says_nothing"), [(9999, False), (10_000, True), (19_850, True)])
def test_check_says_nothing_where_every_number_is_possible(num_images, says_nothing):
    assert examine(["50.00"], num_images).says_nothing == says_nothing


@pytest.mark.parametrize(("dataset", "num_images", "share"), [("ADE20K", 2000, 0.997), ("MIT67", 1340, 0.981)])
def test_released_meter_can_give_all_values_of_p1_and_nearly_every_number(dataset, num_images, share):
    found = examine(published("p1.csv", table="README Results", dataset=dataset), num_images, batch_size=256)
    assert found.impossible == ()
    assert float(found.num_possible_by_chance) / found.num_values == pytest.approx(share, abs=0.001)


@pytest.mark.parametrize(("dataset", "num_images"), [("CIFAR-100", 10_000), ("ImageNet", 50_000)])
def test_check_says_nothing_of_the_numbers_of_cifar_100_and_imagenet(dataset, num_images):
    found = examine(published("cifar100_imagenet.csv", dataset=dataset), num_images)
    assert found.num_values > 0
    assert found.says_nothing
