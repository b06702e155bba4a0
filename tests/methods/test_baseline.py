"""baseline adds nothing."""

import torch

from dctkd.methods import create
from dctkd.methods.base import Batch, DataSpec
from dctkd.models import ModelSpec, Outputs


def test_baseline_reference_is_no_term_no_parameter_and_no_state():
    spec = ModelSpec(num_classes=2, stages=(), pooled_dim=1)
    outputs = Outputs(torch.zeros(1, 2), (), torch.zeros(1, 1))
    batch = Batch(torch.zeros(1, 3, 2, 2), torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), 0, 0.0)
    method = create("baseline", spec, spec, DataSpec(2, 1, (0,)))
    assert method(outputs, outputs, batch) == {}
    assert list(method.parameters()) == []
    assert method.state_dict() == {}
