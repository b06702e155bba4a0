"""dkd against scipy in float64, its relation to kd, and its options."""

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax
from scipy.stats import zscore

from dctkd.errors import InputError
from dctkd.methods import create
from dctkd.methods.dkd import DKD
from tests.methods.cases import DATA, batch, gradients_are_right, outputs, spec, values_of, with_inputs

SPEC = spec(num_classes=5)


def dkd(**options):
    return create("dkd", SPEC, SPEC, DATA, **options)


def numpy_terms(student, teacher, temperature=4.0, change=lambda z: z):
    """T^2 TCKD and T^2 NCKD of each sample, whose labels are 0, 1, 2."""
    terms = []
    for target, rows in enumerate(zip(student.logits_BK, teacher.logits_BK, strict=True)):
        q, p = (softmax(change(z.double().numpy()) / temperature) for z in rows)
        rest_q, rest_p = np.delete(q, target), np.delete(p, target)
        tckd = rel_entr([p[target], rest_p.sum()], [q[target], rest_q.sum()]).sum()
        nckd = rel_entr(rest_p / rest_p.sum(), rest_q / rest_q.sum()).sum()
        terms.append((temperature**2 * tckd, temperature**2 * nckd))
    return np.array(terms)


def require_terms(terms, expected):
    assert list(terms) == ["tckd", "nckd"]
    # Float32 logarithms that nearly cancel.
    np.testing.assert_allclose(list(values_of(terms).values()), expected, rtol=1e-4)


def test_dkd_matches_the_reference_formula():
    student, teacher = outputs(SPEC, 0), outputs(SPEC, 1)
    require_terms(dkd()(student, teacher, batch()), numpy_terms(student, teacher).mean(axis=0) * [1.0, 8.0])


def test_dkd_weights_samples_and_divides_by_the_whole_batch():
    student, teacher = outputs(SPEC, 0), outputs(SPEC, 1)
    terms = dkd()(student, teacher, batch(sample_weight_B=torch.tensor([1.0, 0.0, 1.0])))
    expected = numpy_terms(student, teacher)
    require_terms(terms, (expected[0] + expected[2]) / 3 * [1.0, 8.0])


def test_dkd_takes_alpha_beta_and_temperature_from_the_options():
    student, teacher = outputs(SPEC, 0), outputs(SPEC, 1)
    terms = dkd(alpha=3, beta=0.5, temperature=1)(student, teacher, batch())
    require_terms(terms, numpy_terms(student, teacher, 1.0).mean(axis=0) * [3.0, 0.5])


def test_dkd_standardises_both_networks_before_the_temperature():
    student, teacher = outputs(SPEC, 0), outputs(SPEC, 1)
    terms = dkd(standardise=True)(student, teacher, batch())
    require_terms(terms, numpy_terms(student, teacher, change=zscore).mean(axis=0) * [1.0, 8.0])


def test_dkd_of_one_image_adds_up_to_kd_if_beta_is_the_probability_of_the_other_classes():
    student, teacher = outputs(SPEC, 0, batch_size=1), outputs(SPEC, 1, batch_size=1)
    beta = 1.0 - softmax(teacher.logits_BK.double().numpy() / 4.0)[0, 0]
    terms = values_of(dkd(beta=beta)(student, teacher, batch(1)))
    kd = create("kd", SPEC, SPEC, DATA)(student, teacher, batch(1))["kl"].item()
    np.testing.assert_allclose(sum(terms.values()), kd, rtol=1e-4)


def test_dkd_is_zero_for_equal_logits_shifted_by_a_constant():
    teacher = outputs(SPEC, 0)
    terms = dkd()(with_inputs(teacher, logits_BK=teacher.logits_BK + 3.0), teacher, batch())
    np.testing.assert_allclose(list(values_of(terms).values()), 0.0, atol=1e-5)  # 1e-7 times T^2 times beta.


def test_dkd_of_two_classes_has_no_part_among_the_others():
    two = spec(num_classes=2)
    terms = create("dkd", two, two, DATA)(outputs(two, 0, batch_size=2), outputs(two, 1, batch_size=2), batch(2))
    assert terms["nckd"].item() == 0.0


@pytest.mark.parametrize("standardise", [False, True])
def test_dkd_gradient_is_right(standardise):
    student, teacher = outputs(SPEC, 0, dtype=torch.float64), outputs(SPEC, 1, dtype=torch.float64)
    assert gradients_are_right(dkd(standardise=standardise), student, teacher, batch(), "logits")


def test_dkd_of_overconfident_networks_has_a_finite_gradient():
    logits_BK = torch.full((3, 5), -500.0).fill_diagonal_(500.0).requires_grad_()
    student, teacher = outputs(SPEC, 0), outputs(SPEC, 1)
    sum(dkd(temperature=1)(with_inputs(student, logits_BK=logits_BK), teacher, batch()).values()).backward()
    assert logits_BK.grad.isfinite().all()


def test_dkd_refuses_a_single_class():
    one = spec(num_classes=1)
    with pytest.raises(InputError, match="needs at least 2; got 1"):
        create("dkd", one, one, DATA)


def test_dkd_defaults_are_those_of_mdistiller():
    options = DKD.Options()
    assert (options.alpha, options.beta, options.temperature, options.standardise) == (1.0, 8.0, 4.0, False)
