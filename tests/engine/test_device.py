"""Device and precision, resolved from what the hardware says of itself."""

import pytest

from dctkd.engine import device
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


def test_each_job_claims_a_gpu_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setattr(device.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with device.claim_gpu(2) as first:
        with device.claim_gpu(2) as second:
            assert {first, second} == {0, 1}
            with pytest.raises(InputError, match="all 2 GPUs are claimed"), device.claim_gpu(2):
                pass
        with device.claim_gpu(2) as again:
            assert again == second
