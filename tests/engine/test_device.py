"""Device and precision, resolved from what the hardware says of itself."""

from types import SimpleNamespace

import pytest

from dctkd.engine import device
from dctkd.engine.gpu import job_device
from dctkd.errors import InputError


def with_flags(monkeypatch, flags):
    monkeypatch.setattr(device, "_cpu_flags", lambda: frozenset(flags.split()))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("avx2", "float32"),
        ("avx512f", "float32"),
        ("avx512f avx512_bf16", "bfloat16"),
        ("amx_bf16", "bfloat16"),
        ("", "float32"),
    ],
)
def test_auto_precision_on_cpu_follows_the_cpus_word(monkeypatch, flags, expected):
    with_flags(monkeypatch, flags)
    assert device.resolve_precision("auto", "cpu") == expected


def test_auto_precision_on_gpu_is_bfloat16_and_an_explicit_one_is_kept(monkeypatch):
    with_flags(monkeypatch, "avx2")
    assert device.resolve_precision("auto", "cuda") == "bfloat16"
    assert device.resolve_precision("float32", "cuda") == "float32"
    assert device.resolve_precision("bfloat16", "cpu") == "bfloat16"


def test_auto_device_is_cuda_only_with_a_driver_and_a_visible_gpu(monkeypatch, tmp_path):
    driver = tmp_path / "version"
    monkeypatch.setattr(device, "NVIDIA_DRIVER", driver)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert device.resolve_device("auto") == "cpu"
    driver.write_text("driver")
    assert device.resolve_device("auto") == "cuda"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert device.resolve_device("auto") == "cpu"
    with pytest.raises(InputError, match="expected auto, cpu or cuda"):
        device.resolve_device("tpu")


@pytest.fixture
def gpus(monkeypatch, tmp_path):
    """Pretend that torch sees GPUs with these UUIDs; claims lie in a folder of the test's own."""
    import torch

    monkeypatch.setattr(device.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def see(*uuids):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(uuids))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(uuids))
        properties = [SimpleNamespace(uuid=uuid) for uuid in uuids]
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties[index])

    return see


def test_each_job_claims_a_gpu_of_its_own(gpus):
    gpus("a", "b")
    with job_device("cuda") as first:
        with job_device("cuda") as second:
            assert {first.index, second.index} == {0, 1}
            with pytest.raises(InputError, match="all 2 GPUs are claimed"), job_device("cuda"):
                pass
        with job_device("cuda") as again:
            assert again == second


def test_jobs_that_a_batch_system_shows_another_gpu_each_as_number_0_do_not_hinder_each_other(gpus, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    gpus("a")
    with job_device("cuda") as first:
        gpus("b")
        with job_device("cuda") as second:
            assert first == second
        gpus("a")
        with pytest.raises(InputError, match="all 1 GPUs are claimed"), job_device("cuda"):
            pass


def test_parts_of_one_gpu_are_claimed_apart(gpus, monkeypatch):
    gpus("a")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1")
    with job_device("cuda"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-2")
        with job_device("cuda") as second:
            assert second.index == 0


def test_a_job_without_the_gpu_that_it_needs_says_what_to_do(gpus):
    gpus()
    with pytest.raises(InputError, match="resources gpu=0"), job_device("cuda"):
        pass
