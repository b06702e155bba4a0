"""D7: the slice [1:-1] leaves out the stem of RepDistiller's lists, and the first stage of P1's, which have no stem."""

import pytest

from dctkd.methods import create
from tests.methods.cases import DATA, batch, outputs, spec

RESNET = spec([(4, 8, 8), (4, 4, 4), (4, 2, 2), (4, 1, 1)])


@pytest.mark.parametrize(
    ("features", "kept"),
    [
        (["stem", "stage1", "stage2", "stage3", "pooled"], ["stage1", "stage2", "stage3"]),  # RepDistiller
        (["stage1", "stage2", "stage3", "stage4", "pooled"], ["stage2", "stage3", "stage4"]),  # P1, scenes
        (["stage1", "stage2", "stage3", "pooled"], ["stage2", "stage3"]),  # P1, CIFAR-100
    ],
)
def test_what_the_slice_keeps(features, kept):
    assert features[1:-1] == kept


@pytest.mark.parametrize(("skip_first_stage", "num_terms"), [(True, 3), (False, 4)])
def test_vid_compares_three_of_four_stages(skip_first_stage, num_terms):
    method = create("vid", RESNET, RESNET, DATA, skip_first_stage=skip_first_stage)
    terms = method(outputs(RESNET, 0), outputs(RESNET, 1), batch())
    assert len(terms) == num_terms
    assert ("stage1" in terms) is not skip_first_stage


def test_dct_compares_all_four_stages():
    terms = create("dct_release", RESNET, RESNET, DATA)(outputs(RESNET, 0), outputs(RESNET, 1), batch())
    assert list(terms) == ["stage1", "stage2", "stage3", "stage4"]
