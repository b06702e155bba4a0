"""Latency: what is timed, how often, and what is made of the times."""

import pytest
import torch

from dctkd.engine import latency
from dctkd.engine.latency import Setting, measure_latency, time_repeats
from dctkd.models import build_model


class Machine:
    """A machine whose clock moves by the given seconds in each pass, the last one for ever."""

    def __init__(self, *seconds):
        self.seconds, self.now, self.num_passes = seconds, 0.0, 0

    def act(self):
        self.now += self.seconds[min(self.num_passes, len(self.seconds) - 1)]
        self.num_passes += 1

    def time(self):
        return time_repeats(self.act, clock=lambda: self.now)


def test_median_and_percentiles_interpolate_between_the_repeats():
    measured = Machine(*[0.0] * 3, *range(10, 0, -1)).time()
    # Ten values 1..10: the q-th percentile lies at rank 9 q / 100 from the smallest.
    assert measured.median_seconds == pytest.approx(5.5)
    assert measured.p10_seconds == pytest.approx(1.9)
    assert measured.p90_seconds == pytest.approx(9.1)


def test_the_first_passes_do_not_count():
    measured = Machine(100.0, 100.0, 100.0, 0.125).time()
    assert (measured.p90_seconds, measured.repeats) == (0.125, 10)


@pytest.mark.parametrize(("seconds", "repeats"), [(5.0, 10), (1 / 64, 64), (1e-4, 200)])
def test_repeats_end_after_a_second_but_are_never_fewer_than_10_nor_more_than_200(seconds, repeats):
    machine = Machine(seconds)
    assert machine.time().repeats == repeats
    assert machine.num_passes == repeats + 3


@pytest.fixture
def seen(monkeypatch):
    """A network of three passes, and what each pass of it sees."""
    monkeypatch.setattr(latency, "NUM_WARMUPS", 1)
    monkeypatch.setattr(latency, "MIN_REPEATS", 2)
    monkeypatch.setattr(latency, "MAX_REPEATS", 2)
    threads = torch.get_num_threads()
    options = {"layers": [1, 1, 1, 1], "channels": [4, 4, 8, 8]}
    model = build_model("resnet18", num_classes=5, stage_indices=[0], input_size=32, options=options).train()
    passes = []

    def note(net, inputs, logits_BK):
        images_BCHW = inputs[0]
        passes.append(
            {
                "is_training": net.training,
                "has_gradient": torch.is_grad_enabled(),
                "is_channels_last": images_BCHW.is_contiguous(memory_format=torch.channels_last),
                "images": tuple(images_BCHW.shape),
                "weights_are_channels_last": net.layer1[0].conv2.weight.is_contiguous(
                    memory_format=torch.channels_last
                ),
                "dtype": logits_BK.dtype,
                "threads": torch.get_num_threads(),
            }
        )

    model.net.register_forward_hook(note)
    yield model, passes
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("precision", "threads"), [("float32", 1), ("bfloat16", 2)])
def test_every_pass_is_inference_in_channels_last_with_the_settings_precision_and_threads(seen, precision, threads):
    model, passes = seen
    setting = Setting(torch.device("cpu"), precision, threads)
    measured = measure_latency(model, batch_size=3, input_size=32, setting=setting)
    expected = {
        "is_training": False,
        "has_gradient": False,
        "is_channels_last": True,
        "images": (3, 3, 32, 32),
        "weights_are_channels_last": True,
        "dtype": getattr(torch, precision),
        "threads": threads,
    }
    assert passes == [expected] * 3
    assert 0 < measured.p10_seconds <= measured.median_seconds <= measured.p90_seconds


def test_the_networks_mode_is_left_as_it_was(seen):
    model, _ = seen
    measure_latency(model, batch_size=1, input_size=32, setting=Setting(torch.device("cpu"), "float32", 1))
    assert model.training
    assert model.net.layer1.training


@pytest.mark.gpu
def test_on_a_gpu_the_time_is_that_of_the_work_not_of_queueing_it():
    model = build_model("resnet50", num_classes=5, stage_indices=[0], input_size=224)
    setting = Setting(torch.device("cuda", 0), "float32", 1)
    one = measure_latency(model, batch_size=1, input_size=224, setting=setting)
    many = measure_latency(model, batch_size=256, input_size=224, setting=setting)
    assert many.median_seconds > 2 * one.median_seconds
