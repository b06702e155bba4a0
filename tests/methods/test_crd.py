"""crd against NumPy in float64 from the paper's equations, its memory, and where its negatives come from."""

import numpy as np
import pytest
import torch

from dctkd.errors import InputError
from dctkd.methods import create
from dctkd.methods.base import DataSpec
from tests.methods.cases import batch, outputs, spec, values_of, weights_of

STUDENT, TEACHER = spec(pooled_dim=5), spec(pooled_dim=6)
LABELS = (0, 1, 2, 0, 1, 2, 2, 2, 1)
DATA = DataSpec(3, len(LABELS), LABELS)
NUM_NEGATIVES, TEMPERATURE, MOMENTUM = 11, 0.2, 0.3


def crd(seed=0, data=DATA, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        given = {"embedding_dim": 4, "num_negatives": NUM_NEGATIVES, "temperature": TEMPERATURE, "momentum": MOMENTUM}
        return create("crd", STUDENT, TEACHER, data, **{**given, **options})


def terms_of(method, student, teacher, seed=1, **arguments):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return values_of(method(student, teacher, batch(**arguments)))


def negatives_of(method, seed=1, batch_size=3):
    """Return the negatives that the method draws from this seed: draws are tested with their function."""
    from dctkd.functional.contrast import draw_other_classes

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        blocks = (method.order_N, method.first_K, method.count_K)
        return draw_other_classes(batch(batch_size).target_B, *blocks, num_draws=method.num_negatives).numpy()


def normalised(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def numpy_losses(weights, name, pooled_BD, memory_ND, negatives, constant=None):
    """Return the NCE loss per sample, the embeddings and the normalising constant."""
    embedding = normalised(
        pooled_BD.double().numpy() @ weights[f"embed_{name}.weight"].T + weights[f"embed_{name}.bias"]
    )
    chosen = np.concatenate([np.arange(len(embedding))[:, None], negatives], axis=1)
    similarity = np.exp(np.einsum("bd,bmd->bm", embedding, memory_ND[chosen]) / TEMPERATURE)
    constant = similarity.mean() * len(LABELS) if constant is None else constant
    probability, noise = similarity / constant, NUM_NEGATIVES / len(LABELS)
    positive = np.log(probability[:, 0] / (probability[:, 0] + noise))
    return -positive - np.log(noise / (probability[:, 1:] + noise)).sum(axis=1), embedding, constant


def test_crd_matches_the_reference_formula_over_two_steps():
    method = crd()
    weights = weights_of(method)
    memories = {"student": weights["student_memory_ND"], "teacher": weights["teacher_memory_ND"]}
    constants = {"student": None, "teacher": None}
    for step in (1, 2):
        student, teacher = outputs(STUDENT, step), outputs(TEACHER, 10 + step)
        terms = terms_of(method, student, teacher, seed=step)
        embeddings = {}
        for name, other, pooled in (
            ("student", "teacher", student.pooled_BD),
            ("teacher", "student", teacher.pooled_BD),
        ):
            losses, embeddings[name], constants[name] = numpy_losses(
                weights, name, pooled, memories[other], negatives_of(method, step), constants[name]
            )
            assert terms[name] == pytest.approx(losses.mean(), rel=1e-4)  # Float32, exponents up to 1 / temperature.
        for name, memory in memories.items():
            memory[:3] = normalised(MOMENTUM * memory[:3] + (1 - MOMENTUM) * embeddings[name])
            np.testing.assert_allclose(getattr(method, f"{name}_memory_ND").numpy(), memory, atol=1e-6)


def test_crd_counts_a_sample_by_its_weight():
    student, teacher, weights = outputs(STUDENT, 1), outputs(TEACHER, 2), weights_of(crd())
    terms = terms_of(crd(), student, teacher, sample_weight_B=torch.tensor([1.0, 0.0, 1.0]))
    losses, _, _ = numpy_losses(
        weights, "student", student.pooled_BD, weights["teacher_memory_ND"], negatives_of(crd())
    )
    assert terms["student"] == pytest.approx((losses[0] + losses[2]) / 3, rel=1e-4)


def test_the_memory_has_one_entry_per_training_image_and_renews_those_of_the_batch():
    method = crd()
    before = method.student_memory_ND.clone()
    terms_of(method, outputs(STUDENT, 1), outputs(TEACHER, 2))
    changed = (method.student_memory_ND != before).any(dim=1)
    assert before.shape == (len(LABELS), 4)
    assert changed.tolist() == [True] * 3 + [False] * 6


def test_the_normalising_constant_is_set_by_the_first_batch_and_kept():
    method = crd()
    terms_of(method, outputs(STUDENT, 1), outputs(TEACHER, 2))
    first = method.constants_2.clone()
    terms_of(method, outputs(STUDENT, 3), outputs(TEACHER, 4))
    assert (first > 0).all()
    assert torch.equal(method.constants_2, first)


def test_released_negatives_are_among_the_first_num_classes_images():
    assert set(negatives_of(crd(release_negatives=True, num_negatives=200)).ravel()) == {0, 1, 2}
    assert set(negatives_of(crd(num_negatives=200)).ravel()) == set(range(len(LABELS)))


def test_a_trained_pair_of_embeddings_tells_its_image_from_the_others():
    method, student, teacher = crd(), outputs(STUDENT, 1), outputs(TEACHER, 2)
    optimiser = torch.optim.SGD(method.parameters(), lr=0.05)
    for step in range(200):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(step)
            sum(method(student, teacher, batch()).values()).backward()
        optimiser.step()
        optimiser.zero_grad()
    embedding = torch.nn.functional.normalize(method.embed_student(student.pooled_BD), dim=1)
    assert (embedding @ method.teacher_memory_ND.T).argmax(dim=1).tolist() == [0, 1, 2]


@pytest.mark.parametrize(("labels", "options"), [((1, 1, 1), {}), ((0, 0, 0, 1, 2), {"release_negatives": True})])
def test_crd_refuses_candidates_of_a_single_class(labels, options):
    with pytest.raises(
        InputError, match=r"at least two classes to draw negatives from; its 3 candidates all have label"
    ):
        crd(data=DataSpec(3, len(labels), labels), **options)


def test_derived_tables_of_the_data_are_not_in_the_checkpoint():
    assert set(crd().state_dict()) == {
        "student_memory_ND",
        "teacher_memory_ND",
        "constants_2",
        *(f"embed_{name}.{part}" for name in ("student", "teacher") for part in ("weight", "bias")),
    }
