"""Effects of contrasts against scipy, on made-up trees whose numbers are given."""

import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from dctkd.contrasts import Contrast
from dctkd.report.audit.effects import Measurements
from dctkd.report.collect import gather
from dctkd.report.layout import TOP1, Group, Values
from dctkd.report.verdicts import released_top1_percent

METHODS = ("baseline", "kd", "at", "at-10", "at-100")
WEIGHTS = {"at": 1.0, "at-10": 10.0, "at-100": 100.0}
AUDIT = {"sources": ["p1"], "contrasts": {}}
SCENES = Group("scenes", "wide__narrow")
TEST = {
    "baseline": (60, 61, 62),
    "kd": (64, 64.5, 67),
    "at": (62, 63, 62.5),
    "at-10": (70, 71, 73),
    "at-100": (71, 73, 75),
}
HELD_OUT = {"at": (50, 50, 50), "at-10": (55, 56, 57), "at-100": (54, 54, 58)}


def accuracies():
    found = {(m, s, "last", "test"): v for m, values in TEST.items() for s, v in enumerate(values)}
    found |= {(m, s, "last", "held_out"): v for m, values in HELD_OUT.items() for s, v in enumerate(values)}
    found |= {(m, s, "best_on_test", "test"): v + 1 + s for m, values in TEST.items() for s, v in enumerate(values)}
    return found


@pytest.fixture
def tree(made_up):
    return made_up(methods=METHODS, weights=WEIGHTS, audit=AUDIT, accuracies=accuracies())


def effects(tree, *contrasts):
    collected = gather(tree.folder, tree.store)
    made = [Contrast.model_validate({"label": f"contrast {n}", **c}) for n, c in enumerate(contrasts)]
    return Measurements(collected, Values(collected.frame)).effects(made)


def test_effect_is_the_paired_difference_with_its_t_interval(tree):
    (effect,) = effects(tree, {"a": "kd", "b": "baseline"})
    test = stats.ttest_rel(TEST["kd"], TEST["baseline"])
    low, high = test.confidence_interval(0.95)
    assert effect.difference.mean == pytest.approx(12.5 / 3)
    assert (effect.difference.ci_low, effect.difference.ci_high) == pytest.approx((low, high))
    assert effect.p == pytest.approx(test.pvalue)
    assert (effect.a.mean, effect.b.mean) == pytest.approx((195.5 / 3, 61))
    assert len(effect.runs) == 6


def test_p_is_corrected_over_the_contrasts_of_the_finding(tree):
    pairs = [("kd", "baseline"), ("at", "baseline"), ("at-10", "at")]
    found = effects(tree, *({"a": a, "b": b} for a, b in pairs))
    raw = [stats.ttest_rel(TEST[a], TEST[b]).pvalue for a, b in pairs]
    assert [effect.p for effect in found] == pytest.approx(list(multipletests(raw, method="holm")[1]))


def test_weight_is_chosen_on_held_out_images_and_counted_on_test_images(tree):
    (effect,) = effects(tree, {"a": {"row": "at", "weight": "held_out"}, "b": "baseline"})
    assert effect.weights == ("at-10", "")
    assert effect.a.mean == pytest.approx(sum(TEST["at-10"]) / 3)


def test_weight_that_is_chosen_on_test_images_is_the_one_that_looks_best(tree):
    (effect,) = effects(tree, {"a": {"row": "at", "weight": "test"}, "b": {"row": "at", "weight": "held_out"}})
    assert effect.weights == ("at-100", "at-10")
    assert effect.difference.mean == pytest.approx(5 / 3)


def test_star_is_the_mean_over_rows_of_each_seed_and_tells_the_largest_single_difference(tree):
    (effect,) = effects(tree, {"a": {"row": "*", "epoch": "best_on_test"}, "b": "*"})
    assert effect.difference.mean == pytest.approx(2)
    assert effect.difference.n == 3
    assert effect.largest == pytest.approx(3)
    assert len(effect.runs) == 15


def test_star_with_a_chosen_weight_is_the_mean_over_swept_methods(tree):
    (effect,) = effects(tree, {"a": {"row": "*", "weight": "test"}, "b": {"row": "*", "weight": "held_out"}})
    assert effect.a.mean == pytest.approx(sum(TEST["at-100"]) / 3)
    assert effect.b.mean == pytest.approx(sum(TEST["at-10"]) / 3)


def test_star_leaves_out_a_row_that_lacks_a_seed_not_the_seed(made_up):
    tree = made_up(
        methods=METHODS, weights=WEIGHTS, audit=AUDIT, accuracies=accuracies(), failures={("kd", 1): "diverged"}
    )
    (effect,) = effects(tree, {"a": {"row": "*", "epoch": "best_on_test"}, "b": "*"})
    assert effect.label == "contrast 0 (4)"
    assert effect.difference.n == 3
    assert effect.b.mean == pytest.approx(sum(sum(TEST[m]) for m in METHODS if m != "kd") / 12)


def test_released_meter_reads_the_predictions(tree):
    (effect,) = effects(tree, {"a": {"row": "kd", "meter": "released"}, "b": "kd"})
    collected = gather(tree.folder, tree.store)
    points = Values(collected.frame).of_seeds(SCENES, "kd", TOP1)
    released = [released_top1_percent(collected.evidence.predictions(p.digest).is_right, 256) for p in points.values()]
    assert effect.a.mean == pytest.approx(sum(released) / 3)
    assert effect.difference.mean != 0


def test_contrast_without_finished_runs_has_no_effect(made_up):
    tree = made_up(methods=METHODS, weights=WEIGHTS, audit=AUDIT, absent=frozenset(("kd", s) for s in range(3)))
    collected = gather(tree.folder, tree.store, partial=True)
    (effect,) = Measurements(collected, Values(collected.frame)).effects(
        [Contrast.model_validate({"label": "gone", "a": "kd", "b": "baseline"})]
    )
    assert (effect.a, effect.difference, effect.p) == (None, None, None)
