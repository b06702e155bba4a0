"""fam against a float64 NumPy forward with the full complex filter, its options, and its parameters."""

import numpy as np
import pytest
import torch

from dctkd.errors import InputError
from dctkd.methods import create
from dctkd.methods.frequency_attention import FrequencyAttention, FrequencyAttentionOptions
from tests.methods.cases import DATA, batch, gradients_are_right, outputs, spec, values_of, weights_of, with_inputs

# Stages of other sizes than the teacher's, odd channels, a non-square map, and pooled features of another width.
STUDENT = spec([(4, 4, 6), (5, 2, 3)], pooled_dim=5)
TEACHER = spec([(3, 4, 6), (6, 4, 3)], pooled_dim=7)


def fam(student=STUDENT, teacher=TEACHER, seed=0, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return create("fam", student, teacher, DATA, **options)


def conv1x1(x, weight, bias=None):
    y = np.einsum("bchw,oc->bohw", x, weight[:, :, 0, 0])
    return y if bias is None else y + bias[:, None, None]


def norm_relu(x):
    """Batch normalisation with its initial scale 1 and shift 0, in training, then ReLU."""
    mean, var = x.mean(axis=(0, 2, 3), keepdims=True), x.var(axis=(0, 2, 3), keepdims=True)
    return np.maximum((x - mean) / np.sqrt(var + 1e-5), 0.0)


def nearest(x, height, width):
    rows = np.arange(height) * x.shape[2] // height
    columns = np.arange(width) * x.shape[3] // width
    return x[:, :, rows][:, :, :, columns]


def attend(weights, prefix, x, query):
    """Attention over 3x3 neighbours, one channel and position at a time."""
    key, value = (conv1x1(x, weights[f"{prefix}.{name}.weight"]) for name in ("key", "value"))
    query = conv1x1(query, weights[f"{prefix}.query.weight"])
    rows, columns = weights[f"{prefix}.row_offset_C3"], weights[f"{prefix}.column_offset_C3"]
    result = np.zeros_like(x)
    for b, c, i, j in np.ndindex(*x.shape):
        scores, values = [], []
        for di in range(3):
            for dj in range(3):
                y, z = i + di - 1, j + dj - 1
                inside = 0 <= y < x.shape[2] and 0 <= z < x.shape[3]
                offset = rows[c, di] if c < len(rows) else columns[c - len(rows), dj]
                scores.append(query[b, c, i, j] * ((key[b, c, y, z] if inside else 0.0) + offset))
                values.append(value[b, c, y, z] if inside else 0.0)
        share = np.exp(np.array(scores) - max(scores))
        result[b, c, i, j] = (share / share.sum()) @ np.array(values)
    return result


def full_filter(half_VHIO2, width):
    """Return the Hermitian filter on all frequencies, shape (I, O, H, W)."""
    half = (half_VHIO2[..., 0] + 1j * half_VHIO2[..., 1]).transpose(2, 3, 1, 0)
    height = half.shape[2]
    full = np.zeros((*half.shape[:3], width), dtype=complex)
    for u, v in np.ndindex(height, width):
        full[:, :, u, v] = half[:, :, u, v] if v < half.shape[3] else half[:, :, -u % height, width - v].conj()
    return full


def frequency_attention(weights, prefix, x):
    full = full_filter(weights[f"{prefix}.filter_VHIO2"], x.shape[3])
    spectrum = np.einsum("bixy,ioxy->boxy", np.fft.fft2(x, norm="ortho"), full)
    local = conv1x1(x, weights[f"{prefix}.local.weight"], weights[f"{prefix}.local.bias"])
    filtered = np.fft.ifft2(spectrum, norm="ortho")
    assert np.abs(filtered.imag).max() < 1e-6, "the filter is Hermitian"
    return weights[f"{prefix}.rate_global"] * filtered.real + weights[f"{prefix}.rate_local"] * local


def numpy_errors(weights, student, teacher):
    """Return the squared error per sample of every level, deepest last."""
    own = [f.double().numpy() for f in (*student.stages, student.pooled_BD[:, :, None, None])]
    targets = [f.double().numpy() for f in (*teacher.stages, teacher.pooled_BD[:, :, None, None])]
    errors, deeper = {}, None
    for level in reversed(range(len(own))):
        x = own[level]
        if deeper is not None:
            reduce = weights.get(f"levels.{level}.reduce_deeper.0.weight")
            query = deeper if reduce is None else norm_relu(conv1x1(deeper, reduce))
            x = attend(weights, f"levels.{level}.attend", x, nearest(query, *x.shape[2:]))
        deeper = x = nearest(x, *targets[level].shape[2:])
        result = norm_relu(frequency_attention(weights, f"levels.{level}.filter.0", x))
        name = "pooled" if level == len(own) - 1 else f"stage{level + 1}"
        errors[name] = ((result - targets[level]) ** 2).mean(axis=(1, 2, 3))
    return errors


def test_fam_matches_the_reference_formula():
    student, teacher, method = outputs(STUDENT, 1), outputs(TEACHER, 2), fam()
    expected = {name: error.mean() for name, error in numpy_errors(weights_of(method), student, teacher).items()}
    assert values_of(method(student, teacher, batch())) == pytest.approx(expected, rel=1e-4)  # Three layers in float32.


def test_fam_counts_a_sample_by_its_weight():
    student, teacher, method = outputs(STUDENT, 1), outputs(TEACHER, 2), fam()
    errors = numpy_errors(weights_of(method), student, teacher)
    expected = {name: (error[0] + error[2]) / 3 for name, error in errors.items()}
    weighted = batch(sample_weight_B=torch.tensor([1.0, 0.0, 1.0]))
    assert values_of(method(student, teacher, weighted)) == pytest.approx(expected, rel=1e-4)


def test_fam_gradient_is_right():
    method = fam(global_branch=True)
    # Distinct, far from the kinks of ReLU after normalisation, which finite differences of 1e-6 do not cross.
    student, teacher = (outputs(s, seed, dtype=torch.float64) for seed, s in enumerate((STUDENT, TEACHER)))
    assert gradients_are_right(method, student, teacher, batch(), "stages")


def test_deeper_features_reach_the_shallow_terms_and_not_the_other_way():
    method, student, teacher = fam(), outputs(STUDENT, 1), outputs(TEACHER, 2)
    first = values_of(method(student, teacher, batch()))
    pooled_changed = values_of(method(with_inputs(student, pooled_BD=student.pooled_BD.flip(0)), teacher, batch()))
    stage1_changed = (student.stages[0].flip(0), *student.stages[1:])
    shallow_changed = values_of(method(with_inputs(student, stages=stage1_changed), teacher, batch()))
    assert all(pooled_changed[name] != first[name] for name in first)
    assert [name for name in first if shallow_changed[name] != first[name]] == ["stage1"]


def test_complex_filters_are_stored_as_real_pairs():
    method = fam()
    assert all(not parameter.is_complex() for parameter in method.parameters())
    assert method.levels[0].filter[0].filter_VHIO2.shape == (6 // 2 + 1, 4, 4, 3, 2)


def test_mid_channels_bounds_the_filter():
    wide = spec([(16, 4, 4)], pooled_dim=16)
    free, bounded = (
        sum(p.numel() for name, p in fam(wide, wide, **options).named_parameters() if "filter_VHIO2" in name)
        for options in ({}, {"mid_channels": 2})
    )
    assert free == 2 * (3 * 4 + 1) * 16 * 16
    assert bounded == free / 8


def module(high_pass="released", height=28, width=28, seed=0, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        checked = FrequencyAttentionOptions(high_pass=high_pass, **options)
        return FrequencyAttention(2, 3, height, width, checked)


def test_initial_filters_come_from_a_full_draw():
    weight = module("none", 30, 30).filter_VHIO2.detach() * 6  # Times I * O.
    inner = weight[1:-1]
    # The mean of two draws from [0, 1): mean 1/2 and variance 1/24; their difference halved: mean 0.
    assert inner[..., 0].mean() == pytest.approx(0.5, abs=0.01)
    assert inner[..., 1].mean() == pytest.approx(0.0, abs=0.01)
    assert inner[..., 0].var() == pytest.approx(1 / 24, rel=0.1)
    assert weight[0, 0, ..., 1].abs().max() == 0  # The mean of the map has no imaginary part.


@pytest.mark.parametrize(("high_pass", "zeros"), [("none", 0), ("released", 1), ("symmetric", 6)])
def test_the_high_pass_filter_removes_low_frequencies(high_pass, zeros):
    # r = 1: released removes {-1, 0}^2, of which only (0, 0) has its mirror image removed too; symmetric {-1, 0, 1}^2,
    # that is (0, 0), (0, 1), (-1, 0), (-1, 1), (1, 0) and (1, 1) of the half spectrum.
    assert int(_zero_bins(module(high_pass)).sum()) == zeros


def _zero_bins(attention):
    return (attention.filter_VHIO2.detach().abs().flatten(2) == 0).all(dim=2)


def test_removed_frequencies_stay_removed_in_training():
    attention = module("symmetric")
    optimiser = torch.optim.SGD(attention.parameters(), lr=1.0, momentum=0.9)
    before = _zero_bins(attention)
    for seed in (1, 2):
        x = torch.randn(2, 2, 28, 28, generator=torch.Generator().manual_seed(seed))
        attention(x).square().sum().backward()
        optimiser.step()
    assert torch.equal(_zero_bins(attention), before)


def test_the_cutoff_sets_how_many_frequencies_are_removed():
    assert int(_zero_bins(module("symmetric", cutoff=0.3)).sum()) == 9 * 5  # r = 4: 9 rows, 5 columns of the half.


@pytest.mark.parametrize(("off", "kept"), [("global_branch", "local"), ("local_branch", "filter_VHIO2")])
def test_each_branch_can_be_left_out(off, kept):
    names = [name for name, _ in module(**{off: False}).named_parameters()]
    assert any(name.startswith(kept) for name in names)
    assert len(names) == len(list(module().parameters())) - (2 if off == "global_branch" else 3)


@pytest.mark.parametrize("name", ["fam", "fam_layer"])
@pytest.mark.parametrize("high_pass", ["released", "symmetric", "none"])
@pytest.mark.parametrize("off", [None, "global_branch", "local_branch"])
def test_every_variant_of_the_module_takes_a_step_that_lowers_the_loss(name, high_pass, off):
    own, target = spec([(3, 20, 22), (4, 4, 4)]), spec([(4, 20, 22), (3, 4, 4)])  # From 20 positions on r >= 1.
    options = {"high_pass": high_pass, **({off: False} if off else {})}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        method = create(name, own, target, DATA, **options)
    student, teacher = outputs(own, 1), outputs(target, 2)
    optimiser = torch.optim.SGD(method.parameters(), lr=1e-3)
    losses = []
    for _ in range(2):
        losses.append(sum(method(student, teacher, batch()).values()))
        losses[-1].backward()
        assert all(bool(p.grad.isfinite().all()) and bool(p.grad.any()) for p in method.parameters())
        optimiser.step()
        optimiser.zero_grad()
    assert losses[1].item() < losses[0].item()


def test_no_branch_at_all_is_refused():
    with pytest.raises(InputError, match=r"^fam: options: global_branch and local_branch must not both be false$"):
        fam(global_branch=False, local_branch=False)
