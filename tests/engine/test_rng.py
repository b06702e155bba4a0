"""Random states with an owner."""

import torch

from dctkd.engine.rng import RandomState


def draws(state, number):
    seen = []
    for _ in range(number):
        with state.active():
            seen.append(torch.rand(1).item())
    return seen


def test_two_owners_do_not_disturb_each_other():
    alone = draws(RandomState("a", 0), 4)
    first, second = RandomState("a", 0), RandomState("b", 0)
    together = []
    for _ in range(4):
        together += draws(first, 1)
        draws(second, 3)
    assert together == alone


def test_the_global_state_is_restored():
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    draws(RandomState("a", 0), 3)
    assert torch.equal(torch.rand(2), expected)


def test_the_global_state_is_restored_after_an_error():
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    try:
        with RandomState("a", 0).active():
            torch.rand(1)
            raise RuntimeError
    except RuntimeError:
        pass
    assert torch.equal(torch.rand(2), expected)


def test_purposes_give_different_streams_and_equal_ones_the_same():
    assert draws(RandomState("a", 0), 2) == draws(RandomState("a", 0), 2)
    assert draws(RandomState("a", 0), 2) != draws(RandomState("a", 1), 2)
    assert draws(RandomState("a", 0), 2) != draws(RandomState("b", 0), 2)


def test_a_saved_state_goes_on_where_it_stood():
    state = RandomState("a", 0)
    draws(state, 3)
    saved = {name: value.clone() for name, value in state.state_dict().items()}
    expected = draws(state, 3)
    resumed = RandomState("other", 1)
    resumed.load_state_dict(saved)
    assert draws(resumed, 3) == expected
