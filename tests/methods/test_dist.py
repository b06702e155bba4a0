"""dist against scipy in float64, its invariants, and what sample weights do to a correlation over the batch."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import pearsonr, zscore

from dctkd.methods import create
from dctkd.methods.dist import DIST
from tests.methods.cases import DATA, batch, gradients_are_right, outputs, spec, values_of, with_inputs

SPEC = spec(num_classes=5)


def dist(**options):
    return create("dist", SPEC, SPEC, DATA, **options)


def probabilities(network, temperature=1.0, change=lambda z: z):
    return softmax(change(network.logits_BK.double().numpy()) / temperature, axis=1)


def numpy_terms(student_BK, teacher_BK):
    """1 - Pearson of every row, and of every column."""
    return [
        np.array([1.0 - pearsonr(s, t).statistic for s, t in zip(student, teacher, strict=True)])
        for student, teacher in ((student_BK, teacher_BK), (student_BK.T, teacher_BK.T))
    ]


def require_terms(terms, expected):
    assert list(terms) == ["inter", "intra"]
    # 1e-8 next to norms of 0.1, and float32.
    np.testing.assert_allclose(list(values_of(terms).values()), expected, rtol=1e-4)


def test_dist_matches_the_reference_formula():
    student, teacher = outputs(SPEC, 0), outputs(SPEC, 1)
    inter_B, intra_K = numpy_terms(probabilities(student), probabilities(teacher))
    require_terms(dist()(student, teacher, batch()), [inter_B.mean(), intra_K.mean()])


def test_dist_takes_beta_gamma_and_temperature_from_the_options():
    student, teacher = outputs(SPEC, 0), outputs(SPEC, 1)
    inter_B, intra_K = numpy_terms(probabilities(student, 4.0), probabilities(teacher, 4.0))
    terms = dist(beta=2, gamma=0.5, temperature=4)(student, teacher, batch())
    require_terms(terms, [2 * 16 * inter_B.mean(), 0.5 * 16 * intra_K.mean()])


def test_dist_standardises_both_networks_before_the_temperature():
    student, teacher = outputs(SPEC, 0), outputs(SPEC, 1)
    inter_B, intra_K = numpy_terms(*(probabilities(o, 2.0, lambda z: zscore(z, axis=1)) for o in (student, teacher)))
    terms = dist(standardise=True, temperature=2)(student, teacher, batch())
    require_terms(terms, [4 * inter_B.mean(), 4 * intra_K.mean()])


def test_dist_leaves_out_unweighted_images_and_divides_by_the_whole_batch():
    student, teacher = outputs(SPEC, 0, batch_size=4), outputs(SPEC, 1, batch_size=4)
    kept = [0, 2, 3]
    inter_B, intra_K = numpy_terms(probabilities(student)[kept], probabilities(teacher)[kept])
    terms = dist()(student, teacher, batch(4, torch.tensor([1.0, 0.0, 1.0, 1.0])))
    require_terms(terms, [inter_B.sum() / 4, intra_K.mean() * 3 / 4])


def test_dist_weights_of_one_change_nothing():
    student, teacher = outputs(SPEC, 0), outputs(SPEC, 1)
    weighted = dist()(student, teacher, batch(sample_weight_B=torch.ones(3)))
    assert values_of(weighted) == values_of(dist()(student, teacher, batch()))


@pytest.mark.parametrize("weights", [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
def test_dist_intra_is_zero_if_fewer_than_two_images_count(weights):
    terms = dist()(outputs(SPEC, 0), outputs(SPEC, 1), batch(sample_weight_B=torch.tensor(weights)))
    assert terms["intra"].item() == 0.0


def test_dist_intra_of_one_image_is_zero():
    terms = dist()(outputs(SPEC, 0, batch_size=1), outputs(SPEC, 1, batch_size=1), batch(1))
    assert terms["intra"].item() == 0.0


def test_dist_is_zero_for_equal_logits_shifted_by_a_constant():
    teacher = outputs(SPEC, 0)
    terms = dist()(with_inputs(teacher, logits_BK=teacher.logits_BK + 3.0), teacher, batch())
    # Float32 shifts the logits by 1e-7; norms of 0.01 next to 1e-8 / 0.01.
    np.testing.assert_allclose(list(values_of(terms).values()), 0.0, atol=1e-4)


def test_dist_inter_is_zero_for_probabilities_that_are_a_positive_affine_map_of_the_teachers():
    teacher = outputs(SPEC, 1)
    mixed_BK = 0.3 * teacher.logits_BK.softmax(dim=1) + 0.7 / 5
    terms = dist()(with_inputs(teacher, logits_BK=mixed_BK.log()), teacher, batch())
    np.testing.assert_allclose(terms["inter"].item(), 0.0, atol=1e-5)


def test_dist_of_a_doubled_batch_is_the_same():
    student, teacher = outputs(SPEC, 0), outputs(SPEC, 1)
    doubled = [with_inputs(o, logits_BK=o.logits_BK.repeat(2, 1)) for o in (student, teacher)]
    require_terms(dist()(*doubled, batch(6)), list(values_of(dist()(student, teacher, batch())).values()))


def test_dist_of_constant_logits_counts_as_uncorrelated_with_a_finite_gradient():
    logits_BK = torch.zeros(3, 5, requires_grad=True)
    teacher = outputs(SPEC, 1)
    terms = dist()(with_inputs(teacher, logits_BK=logits_BK), teacher, batch())
    sum(terms.values()).backward()
    assert values_of(terms) == {"inter": 1.0, "intra": 1.0}
    assert logits_BK.grad.isfinite().all()


@pytest.mark.parametrize("standardise", [False, True])
def test_dist_gradient_is_right(standardise):
    student, teacher = outputs(SPEC, 0, dtype=torch.float64), outputs(SPEC, 1, dtype=torch.float64)
    weighted = batch(sample_weight_B=torch.tensor([1.0, 0.5, 2.0]))
    assert gradients_are_right(dist(standardise=standardise), student, teacher, weighted, "logits")


def test_dist_defaults_are_those_of_the_release_on_imagenet():
    options = DIST.Options()
    assert (options.beta, options.gamma, options.temperature, DIST.default_weight) == (1.0, 1.0, 1.0, 2.0)
