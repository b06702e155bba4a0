"""Exact accuracy against torchmetrics, scipy and hand-worked cases."""

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torchmetrics.functional.classification import multiclass_accuracy

from dctkd.metrics.accuracy import Accuracy

torch.set_num_threads(1)


def _data(num_images=97, num_classes=11):
    generator = torch.Generator().manual_seed(1)
    logits_NK = torch.randn(num_images, num_classes, generator=generator)
    target_N = torch.randint(
        0, num_classes - 3, (num_images,), generator=generator
    )  # the last three classes are absent
    logits_NK[torch.arange(num_images), target_N] += 1.0
    return logits_NK, target_N


def _accuracy(logits_NK, target_N, *, batch_size=10, order=None, **options):
    accuracy = Accuracy(logits_NK.shape[1], **options)
    order = torch.arange(len(target_N)) if order is None else order
    for chosen in order.split(batch_size):
        accuracy.update(logits_NK[chosen], target_N[chosen], chosen)
    return accuracy


def _values(accuracy):
    return {result.metric: result.value for result in accuracy.result()}


@pytest.mark.parametrize(("metric", "top_k"), [("top1_percent", 1), ("top5_percent", 5)])
def test_top_k_agrees_with_torchmetrics(metric, top_k):
    logits_NK, target_N = _data()
    expected = multiclass_accuracy(logits_NK, target_N, num_classes=11, average="micro", top_k=top_k)
    assert _values(_accuracy(logits_NK, target_N))[metric] == pytest.approx(100 * expected.item(), rel=1e-6)  # float32


def test_cross_entropy_agrees_with_scipy():
    logits_NK, target_N = _data()
    expected = -log_softmax(logits_NK.double().numpy(), axis=1)[np.arange(97), target_N.numpy()].mean()
    assert _values(_accuracy(logits_NK, target_N))["cross_entropy_nats"] == pytest.approx(expected, rel=1e-12)


def test_class_means_by_hand():
    # Class 0: 2 of 3 right, class 1: 0 of 1, class 2: 1 of 1, class 3: no images.
    prediction_N, target_N = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([0, 0, 0, 1, 2])
    values = _values(_accuracy(torch.eye(4)[prediction_N], target_N, batch_size=2))
    assert values["top1_percent"] == 60.0
    assert values["mca_present_percent"] == pytest.approx(100 * (2 / 3 + 0 + 1) / 3, rel=1e-15)
    assert values["mca_all_percent"] == pytest.approx(100 * (2 / 3 + 0 + 1) / 4, rel=1e-15)


def test_results_do_not_depend_on_order_or_batch_size():
    logits_NK, target_N = _data()
    shuffled = torch.randperm(97, generator=torch.Generator().manual_seed(2))
    one, other = _accuracy(logits_NK, target_N), _accuracy(logits_NK, target_N, batch_size=17, order=shuffled)
    assert one.result() == other.result()
    for name, column in one.predictions().items():
        assert np.array_equal(column, other.predictions()[name])


def test_a_short_last_batch_counts_by_its_images():
    # Four images right, then one wrong in a batch of its own: 80 %, not (100 + 0) / 2.
    logits_NK, target_N = torch.eye(2)[torch.tensor([0, 0, 0, 0, 1])], torch.zeros(5, dtype=torch.int64)
    values = _values(_accuracy(logits_NK, target_N, batch_size=4))
    assert values["top1_percent"] == 80.0


@pytest.mark.parametrize(
    ("target", "right", "in_top5"), [(0, True, True), (1, False, True), (4, False, True), (5, False, False)]
)
def test_ties_go_to_the_lower_class(target, right, in_top5):
    accuracy = _accuracy(torch.zeros(1, 8), torch.tensor([target]))
    assert _values(accuracy)["top1_percent"] == 100.0 * right
    assert accuracy.predictions()["prediction"].tolist() == [0]
    assert accuracy.predictions()["in_top5"].tolist() == [in_top5]


def test_logits_with_a_nan_are_wrong_and_leave_no_cross_entropy():
    logits_NK = torch.eye(3)[torch.tensor([0, 1])].clone()
    logits_NK[0, 2] = math.nan
    accuracy = _accuracy(logits_NK, torch.tensor([0, 1]))
    values = _values(accuracy)
    assert values["top1_percent"] == 50.0
    assert values["top5_percent"] == 50.0
    assert "cross_entropy_nats" not in values
    assert accuracy.predictions()["prediction"].tolist() == [-1, 1]


def test_with_few_classes_top5_means_all_of_them():
    values = _values(_accuracy(torch.eye(3), torch.tensor([2, 0, 1])))
    assert values["top5_percent"] == 100.0


def test_a_right_prediction_is_the_target_of_rank_zero():
    logits_NK, target_N = _data()
    logits_NK = logits_NK.bfloat16()  # coarse, so that there are ties
    accuracy = _accuracy(logits_NK, target_N)
    columns = accuracy.predictions()
    num_right = (columns["prediction"] == columns["target"]).sum()
    assert 100 * num_right / 97 == _values(accuracy)["top1_percent"]
    assert np.array_equal(columns["prediction"], logits_NK.float().numpy().argmax(axis=1))  # NumPy takes the first


def test_predictions_are_sorted_columns_of_the_promised_types():
    logits_NK, target_N = _data()
    columns = _accuracy(logits_NK, target_N, order=torch.arange(96, -1, -1)).predictions()
    types = {name: column.dtype.name for name, column in columns.items()}
    assert types == {
        "index": "int32", "target": "int32", "prediction": "int32", "in_top5": "bool", "target_probability": "float32",
    }  # fmt: skip
    assert columns["index"].tolist() == list(range(97))
    expected = torch.softmax(logits_NK.double(), dim=1)[torch.arange(97), target_N].float().numpy()
    np.testing.assert_allclose(columns["target_probability"], expected, rtol=2e-7)  # one unit in the last place


def test_results_carry_stage_split_and_unit():
    accuracy = _accuracy(*_data())
    results = accuracy.result(stage="best_on_test", split="held_out")
    assert {(result.stage, result.split) for result in results} == {("best_on_test", "held_out")}
    assert {result.metric.rsplit("_", 1)[1]: result.unit for result in results} == {
        "percent": "percent",
        "nats": "nats",
    }


def test_an_image_counts_once():
    accuracy = Accuracy(2)
    for _ in range(2):
        accuracy.update(torch.zeros(2, 2), torch.zeros(2, dtype=torch.int64), torch.tensor([4, 7]))
    with pytest.raises(ValueError, match="image 4 was counted twice, as were 1 more"):
        accuracy.result()


@pytest.mark.parametrize(
    ("logits_BK", "target_B", "message"),
    [
        (torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64), "expected logits of 3 classes"),
        (torch.zeros(2, 3), torch.zeros(1, dtype=torch.int64), "expected logits"),
        (torch.zeros(3), torch.zeros(3, dtype=torch.int64), "expected logits"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(logits_BK, target_B, message):
    with pytest.raises(ValueError, match=message):
        Accuracy(3).update(logits_BK, target_B, torch.arange(len(logits_BK)))


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="no images were counted"):
        Accuracy(3).result()
