"""The loss of a run: weights, ramp, and which images the teacher may speak for."""

import pytest
import torch
from torch.nn import functional as F

from dctkd.engine.objective import Objective
from dctkd.functional.logits import kl_per_sample
from dctkd.identity import MethodIdentity
from dctkd.methods import METHODS, create
from dctkd.models import Outputs
from tests.methods.cases import DATA, batch, outputs, spec

SPEC = spec([(4, 4, 4), (6, 2, 2)])
WEIGHTS = {
    "method": "kd",
    "options": {},
    "weight": 0.5,
    "warmup_epochs": 0.0,
    "ce": 2.0,
    "teacher_correct_only": False,
    "kd_weight": 3.0,
    "kd_temperature": 4.0,
    "kd_teacher_correct_only": False,
    "results_version": 1,
    "source_sha256": None,
}


def objective(method="kd", **changes):
    identity = MethodIdentity.model_validate({**WEIGHTS, "method": method, **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Objective(identity, create(method, SPEC, SPEC, DATA), label_smoothing=0.0)


def student_and_teacher():
    """Return random outputs of which the teacher has image 1 of 3 right (the labels are 0, 1, 2)."""
    teacher = outputs(SPEC, 1)
    logits_BK = torch.tensor([[0.0, 3.0, 1.0], [0.0, 3.0, 1.0], [0.0, 3.0, 1.0]])
    return outputs(SPEC, 0), Outputs(logits_BK, teacher.stages, teacher.pooled_BD)


def test_total_is_the_weighted_sum_of_its_terms():
    student, teacher = student_and_teacher()
    terms = objective()(student, teacher, batch(), ramp=0.25)
    ce = F.cross_entropy(student.logits_BK, batch().target_B)
    kl = kl_per_sample(student.logits_BK, teacher.logits_BK, temperature=4.0).mean()
    torch.testing.assert_close(terms.total, 2.0 * ce + 0.5 * 0.25 * kl + 3.0 * kl)
    assert set(terms.named) == {"ce", "kl", "+kd"}


@pytest.mark.parametrize("masked", ["kl", "+kd"])
def test_where_the_teacher_is_wrong_an_image_counts_as_zero_in_the_mean(masked):
    student, teacher = student_and_teacher()
    flag = {"kl": "teacher_correct_only", "+kd": "kd_teacher_correct_only"}[masked]
    named = objective(**{flag: True})(student, teacher, batch(), ramp=1.0).named
    kl_B = kl_per_sample(student.logits_BK, teacher.logits_BK, temperature=4.0)
    other = "+kd" if masked == "kl" else "kl"
    torch.testing.assert_close(named[masked], kl_B[1] / 3)
    torch.testing.assert_close(named[other], kl_B.mean())


@pytest.mark.parametrize("method", METHODS)
def test_every_method_can_be_limited_to_where_the_teacher_is_right(method):
    student, teacher = student_and_teacher()
    wrong = Outputs(teacher.logits_BK.roll(1, dims=1), teacher.stages, teacher.pooled_BD)
    wrong.logits_BK[1] = torch.tensor([5.0, 0.0, 0.0])
    wrong.logits_BK[2] = torch.tensor([5.0, 0.0, 0.0])
    wrong.logits_BK[0] = torch.tensor([0.0, 0.0, 5.0])  # Never right.
    named = objective(method, teacher_correct_only=True)(student, wrong, batch(), ramp=1.0).named
    for name, value in named.items():
        assert name in ("ce", "+kd") or value.item() == pytest.approx(0.0, abs=1e-6)
