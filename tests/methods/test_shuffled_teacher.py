"""shuffled_teacher against scipy in float64, and what it shares with kd."""

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from dctkd.errors import InputError
from dctkd.methods import create
from dctkd.methods.kd import KD
from dctkd.methods.shuffled_teacher import ShuffledTeacher
from tests.methods.cases import DATA, batch, gradients_are_right, outputs, spec, with_inputs

SPEC = spec(num_classes=5)


def shuffled(**options):
    return create("shuffled_teacher", SPEC, SPEC, DATA, **options)


def pair(batch_size=3, dtype=torch.float32):
    return (outputs(SPEC, seed, batch_size=batch_size, dtype=dtype) for seed in (0, 1))


def scipy_kl(student, teacher, temperature=4.0):
    """One value per image of the student, against the teacher on the image before it, in a circle."""
    s, t = (softmax(o.logits_BK.double().numpy() / temperature, axis=1) for o in (student, teacher))
    return np.array([temperature**2 * rel_entr(t[i - 1], s[i]).sum() for i in range(len(s))])


@pytest.mark.parametrize(("options", "temperature"), [({}, 4.0), ({"temperature": 2}, 2.0)])
def test_shuffled_teacher_matches_the_reference_formula(options, temperature):
    student, teacher = pair()
    terms = shuffled(**options)(student, teacher, batch())
    assert list(terms) == ["kl"]
    np.testing.assert_allclose(terms["kl"].item(), scipy_kl(student, teacher, temperature).mean(), rtol=1e-5)


def test_shuffled_teacher_weights_the_images_of_the_student():
    student, teacher = pair()
    values = scipy_kl(student, teacher)
    term = shuffled()(student, teacher, batch(sample_weight_B=torch.tensor([1.0, 0.0, 0.5])))["kl"]
    np.testing.assert_allclose(term.item(), (values[0] + 0.5 * values[2]) / 3, rtol=1e-5)


def test_shuffled_teacher_is_zero_for_a_student_that_answers_for_the_previous_image():
    _, teacher = pair()
    student = with_inputs(teacher, logits_BK=teacher.logits_BK[[2, 0, 1]])
    torch.testing.assert_close(shuffled()(student, teacher, batch())["kl"], torch.zeros(()), rtol=0, atol=1e-6)


def test_shuffled_teacher_equals_kd_when_the_teacher_says_the_same_of_every_image():
    student, teacher = pair()
    same = with_inputs(teacher, logits_BK=teacher.logits_BK[:1].expand(3, -1))
    kd = create("kd", SPEC, SPEC, DATA)
    torch.testing.assert_close(shuffled()(student, same, batch())["kl"], kd(student, same, batch())["kl"])


def test_shuffled_teacher_of_one_image_is_zero_with_a_zero_gradient():
    student, teacher = pair(1)
    logits_BK = student.logits_BK.clone().requires_grad_()
    term = shuffled()(with_inputs(student, logits_BK=logits_BK), teacher, batch(1))["kl"]
    term.backward()
    assert term.item() == 0.0
    assert not logits_BK.grad.any()


def test_shuffled_teacher_draws_no_random_numbers():
    student, teacher = pair()
    before = torch.get_rng_state()
    shuffled()(student, teacher, batch())
    assert torch.equal(before, torch.get_rng_state())


def test_shuffled_teacher_has_the_weights_and_temperature_of_kd():
    for name in ("default_weight", "default_ce", "default_warmup_epochs"):
        assert getattr(ShuffledTeacher, name) == getattr(KD, name)
    assert ShuffledTeacher.Options().temperature == KD.Options().temperature


def test_shuffled_teacher_keeps_the_batch_whole_and_in_order():
    assert ShuffledTeacher.needs_whole_batch
    assert ShuffledTeacher.batch_order_matters


def test_shuffled_teacher_refuses_a_temperature_of_zero():
    with pytest.raises(InputError, match="temperature"):
        shuffled(temperature=0)


def test_shuffled_teacher_gradient_is_right():
    student, teacher = pair(3, torch.float64)
    assert gradients_are_right(shuffled(), student, teacher, batch(), "logits")
