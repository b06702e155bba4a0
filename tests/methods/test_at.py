"""at against NumPy in float64, and its invariants."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from dctkd.errors import InputError
from dctkd.methods import create
from dctkd.methods.base import Batch, DataSpec
from dctkd.models import ModelSpec, Outputs, StageSpec

STUDENT = ((6, 8, 8), (5, 4, 4))
TEACHER = ((9, 4, 4), (7, 4, 4))
DATA = DataSpec(3, 3, (0, 1, 2))


def spec(stages):
    return ModelSpec(num_classes=3, stages=tuple(StageSpec(*stage) for stage in stages), pooled_dim=4)


def outputs(stages, seed, batch_size=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    maps = tuple(torch.randn(batch_size, *stage, generator=generator, dtype=dtype).relu() for stage in stages)
    return Outputs(torch.zeros(batch_size, 3), maps, torch.zeros(batch_size, 4))


def batch(batch_size=3, sample_weight_B=None):
    index_B = torch.arange(batch_size)
    return Batch(torch.zeros(batch_size, 3, 8, 8), index_B % 3, index_B, 0, 0.0, sample_weight_B)


def at():
    return create("at", spec(STUDENT), spec(TEACHER), DATA)


def numpy_terms(student, teacher):
    """One value per sample and stage, from the formula."""
    terms = []
    for feature_s, feature_t in zip(student.stages, teacher.stages, strict=True):
        map_s, map_t = ((f.double().numpy() ** 2).mean(axis=1) for f in (feature_s, feature_t))
        if map_s.shape[1] > map_t.shape[1]:
            map_s = map_s.reshape(len(map_s), 4, 2, 4, 2).mean(axis=(2, 4))
        q_s, q_t = (
            m.reshape(len(m), -1) / np.linalg.norm(m.reshape(len(m), -1), axis=1)[:, None] for m in (map_s, map_t)
        )
        terms.append(((q_s - q_t) ** 2).mean(axis=1))
    return terms


def test_at_matches_the_reference_formula():
    student, teacher = outputs(STUDENT, 0), outputs(TEACHER, 1)
    terms = at()(student, teacher, batch())
    expected = numpy_terms(student, teacher)
    assert list(terms) == ["stage1", "stage2"]
    np.testing.assert_allclose([term.item() for term in terms.values()], [e.mean() for e in expected], rtol=1e-5)


def test_at_weights_samples_and_divides_by_the_whole_batch():
    student, teacher = outputs(STUDENT, 0), outputs(TEACHER, 1)
    terms = at()(student, teacher, batch(sample_weight_B=torch.tensor([1.0, 0.0, 1.0])))
    expected = [(e[0] + e[2]) / 3 for e in numpy_terms(student, teacher)]
    np.testing.assert_allclose([term.item() for term in terms.values()], expected, rtol=1e-5)


def test_at_is_zero_for_scaled_features_with_channels_in_another_order():
    teacher = outputs(STUDENT, 0)
    student = Outputs(teacher.logits_BK, tuple(3.0 * stage.flip(1) for stage in teacher.stages), teacher.pooled_BD)
    terms = create("at", spec(STUDENT), spec(STUDENT), DATA)(student, teacher, batch())
    for term in terms.values():
        torch.testing.assert_close(term, torch.zeros(()), rtol=0, atol=1e-12)  # Squares of 1e-7.


def test_at_leaves_out_the_first_stage_of_both_networks():
    student, teacher = outputs(STUDENT, 0), outputs(TEACHER, 1)
    terms = create("at", spec(STUDENT), spec(TEACHER), DATA, skip_first_stage=True)(student, teacher, batch())
    assert list(terms) == ["stage2"]
    assert terms["stage2"].item() == pytest.approx(numpy_terms(student, teacher)[1].mean(), rel=1e-5)


def test_at_refuses_to_skip_the_only_stage():
    with pytest.raises(InputError, match="at: skip_first_stage leaves no stage"):
        create("at", spec(STUDENT[:1]), spec(TEACHER[:1]), DATA, skip_first_stage=True)


def test_at_gradient_is_right():
    student_stages, teacher_stages = ((2, 4, 2), (1, 2, 3)), ((3, 2, 2), (2, 2, 3))
    teacher, start = outputs(teacher_stages, 1, 2, torch.float64), outputs(student_stages, 0, 2, torch.float64)
    method = create("at", spec(student_stages), spec(teacher_stages), DATA)

    def total(*stages):
        return sum(method(Outputs(start.logits_BK, stages, start.pooled_BD), teacher, batch(2)).values())

    assert gradcheck(total, tuple(stage.requires_grad_() for stage in start.stages))


def test_at_refuses_unequal_numbers_of_stages():
    with pytest.raises(ValueError, match="equally many of student and teacher, at least one; got 1 and 2"):
        create("at", spec(STUDENT[:1]), spec(TEACHER), DATA)
