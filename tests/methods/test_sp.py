"""sp against float64 NumPy, its anchors and its invariants."""

import numpy as np
import pytest
import torch

from dctkd.errors import InputError
from dctkd.methods import create
from tests.methods.cases import DATA, batch, gradients_are_right, outputs, spec, values_of, with_inputs

STUDENT = spec(((3, 4, 4), (2, 3, 2)))
TEACHER = spec(((5, 4, 4), (4, 1, 2)))


def sp():
    return create("sp", STUDENT, TEACHER, DATA)


def pair(batch_size=3, dtype=torch.float32):
    return (outputs(model, seed, batch_size=batch_size, dtype=dtype) for seed, model in enumerate((STUDENT, TEACHER)))


def numpy_rows(student, teacher):
    """One value per anchor, from the formula: sum over the row of squared differences, over B."""
    grams = []
    for feature in (student.stages[-1], teacher.stages[-1]):
        gram = np.einsum("ichw,jchw->ij", feature.double().numpy(), feature.double().numpy())
        grams.append(gram / np.sqrt((gram**2).sum(axis=1, keepdims=True)))
    return ((grams[0] - grams[1]) ** 2).sum(axis=1) / len(grams[0])


def test_sp_matches_the_reference_formula():
    student, teacher = pair(5)
    rows = numpy_rows(student, teacher)
    terms = values_of(sp()(student, teacher, batch(5)))
    assert list(terms) == ["similarity"]
    np.testing.assert_allclose(terms["similarity"], rows.sum() / 5, rtol=1e-5)


def test_sp_of_a_hand_worked_batch():
    # Perpendicular for the student, 3-4-5 for the teacher: rows (1, 0) and (0, 1) against (1, 0.6) and (0.6, 1).
    student, teacher = pair(2)
    student = with_inputs(student, stages=(torch.eye(2).view(2, 2, 1, 1),))
    teacher = with_inputs(teacher, stages=(torch.tensor([[1.0, 0.0], [0.6, 0.8]]).view(2, 2, 1, 1),))
    length = 1.36**0.5
    expected = 2 * ((1 - 1 / length) ** 2 + (0.6 / length) ** 2) / 4
    np.testing.assert_allclose(values_of(sp()(student, teacher, batch(2)))["similarity"], expected, rtol=1e-5)


def test_sp_weights_anchors_and_divides_by_the_whole_batch():
    student, teacher = pair()
    rows = numpy_rows(student, teacher)
    term = sp()(student, teacher, batch(sample_weight_B=torch.tensor([1.0, 0.0, 1.0])))["similarity"]
    np.testing.assert_allclose(term.item(), (rows[0] + rows[2]) / 3, rtol=1e-5)


def test_sp_reads_the_last_stage_only():
    student, teacher = pair()
    changed = with_inputs(student, stages=(student.stages[0] + 1.0, student.stages[1]))
    before, after = (sp()(given, teacher, batch())["similarity"] for given in (student, changed))
    assert torch.equal(before, after)


def test_sp_is_zero_for_scaled_features_with_positions_in_another_order():
    _, teacher = pair()
    student = with_inputs(teacher, stages=tuple(3.0 * stage.flip(3) for stage in teacher.stages))
    value = create("sp", TEACHER, TEACHER, DATA)(student, teacher, batch())["similarity"].item()
    assert value == pytest.approx(0.0, abs=1e-12)  # Squares of 1e-7.


def test_sp_does_not_depend_on_the_memory_format():
    student, teacher = pair()
    stages = tuple(stage.to(memory_format=torch.channels_last) for stage in student.stages)
    value = sp()(with_inputs(student, stages=stages), teacher, batch())["similarity"]
    torch.testing.assert_close(value, sp()(student, teacher, batch())["similarity"])


def test_sp_of_a_dead_image_gives_no_inflated_gradient():
    student, teacher = pair()
    stages = tuple(
        (stage * torch.tensor([1.0, 0.0, 1.0]).view(3, 1, 1, 1)).requires_grad_() for stage in student.stages
    )
    sp()(with_inputs(student, stages=stages), teacher, batch())["similarity"].backward()
    assert stages[-1].grad.abs().max() < 1.0  # Normalising with an epsilon of 1e-12 gives about 1e11.


def test_sp_gradient_is_right():
    student, teacher = pair(3, torch.float64)
    student = with_inputs(student, stages=student.stages[-1:])
    assert gradients_are_right(sp(), student, teacher, batch(), "stages")


def test_sp_refuses_a_pair_without_stages():
    with pytest.raises(InputError, match="at least one; got 0 and 0"):
        create("sp", spec(), spec(), DATA)
