"""Processor and GPUs, as the machine could be."""

import os
import subprocess
import sys
import tempfile

import pytest

from dctkd.doctor import compute

HOLD = """
import fcntl, os, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """A loaded driver."""
    from dctkd.engine import device

    path = tmp_path / "nvidia-version"
    path.touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for module in (compute, device):
        monkeypatch.setattr(module, "NVIDIA_DRIVER", path)


@pytest.fixture
def torch_says(monkeypatch):
    """Return a function that lets torch answer this."""

    def say(**answer):
        monkeypatch.setattr(compute, "ask_torch", lambda: answer)

    return say


def test_a_limit_below_the_cores_is_a_warning(surroundings, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setattr(compute, "cpu_limit", lambda _: 2.5)
    (found,) = compute.processor(surroundings)
    assert (found.state, found.remedy) == ("warning", "snakemake --cores 2")
    assert "16 cores, but a cgroup grants 2.5" in found.text


def test_fewer_usable_cores_are_a_note(surroundings, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    (found,) = compute.processor(surroundings)
    assert (found.state, found.text.endswith("16 cores, 2 of them for this process")) == ("note", True)


@pytest.mark.parametrize(("wanted", "words"), [("bfloat16", "with AVX512"), ("float32", "without AVX512")])
def test_auto_is_told_with_its_reason(surroundings, monkeypatch, wanted, words):
    monkeypatch.setattr(compute, "resolve_device", lambda _: "cpu")
    monkeypatch.setattr(compute, "resolve_precision", lambda *_: wanted)
    (found,) = compute.auto(surroundings)
    assert found.text.startswith(f"device cpu, precision {wanted} ({words}")


def test_a_torch_without_cuda_beside_a_driver_is_a_problem(surroundings, driver, torch_says):
    torch_says(version="2.9.0+cpu", cuda=None, devices=[], warning="")
    (found,) = compute.gpus(surroundings)
    assert found.state == "problem"
    packages = ("torch", "torchvision")
    again = " ".join(f"--reinstall-package {name}" for name in packages)
    assert found.remedy == f"uv pip install --torch-backend auto {again} {' '.join(packages)}"


def test_a_driver_that_torch_cannot_use_is_a_problem(surroundings, driver, torch_says):
    torch_says(version="2.9.0", cuda="13.2", devices=[], warning="The NVIDIA driver is too old")
    (found,) = compute.gpus(surroundings)
    assert (found.state, found.remedy) == ("problem", "export CUDA_VISIBLE_DEVICES=")
    assert "driver is too old" in found.text


def test_a_torch_that_does_not_answer_is_told(surroundings, driver, torch_says):
    torch_says(error="ImportError: libcudart.so")
    (found,) = compute.gpus(surroundings)
    assert "torch could not be asked: ImportError: libcudart.so" in found.text


def test_gpus_are_told_with_their_memory_and_how_to_use_all(surroundings, driver, torch_says):
    device = {"name": "H200", "free_bytes": 100e9, "total_bytes": 150e9}
    torch_says(version="2.9.0", cuda="13.2", devices=[device, device], warning="")
    found = list(compute.gpus(surroundings))
    assert [finding.state for finding in found] == ["ok", "ok", "note"]
    assert found[0].text == "0: H200, 100.0 GB of 150.0 GB free"
    assert found[2].remedy == "snakemake --cores all --resources gpu=2"


def test_hidden_gpus_are_a_note_and_torch_is_not_asked(surroundings, driver, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (found,) = compute.gpus(surroundings)
    assert (found.state, "hides every GPU" in found.text) == ("note", True)


def test_a_gpu_without_a_driver_is_a_note(surroundings, tmp_path, monkeypatch):
    monkeypatch.setattr(compute, "NVIDIA_DRIVER", tmp_path / "none")
    (found,) = compute.gpus(surroundings)
    assert (found.state, found.text) == ("ok", "none")
    folder = surroundings.root / "sys/bus/pci/devices/0000:00:04.0"
    folder.mkdir(parents=True)
    (folder / "class").write_text("0x030200\n")
    (folder / "vendor").write_text("0x10de\n")
    (found,) = compute.gpus(surroundings)
    assert (found.state, "no driver is loaded" in found.text) == ("note", True)


@pytest.mark.skipif(not os.path.exists("/proc/locks"), reason="asks the kernel for its locks")  # noqa: PTH110
def test_a_gpu_that_a_job_holds_is_told_with_its_process(driver, tmp_path, monkeypatch):
    from dctkd.doctor.finding import Surroundings

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = compute.gpu_lock_folder()
    folder.mkdir()
    (folder / "0.lock").touch()
    command = [sys.executable, "-c", HOLD, str(folder / "1.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout.readline() == "held\n"
        (found,) = compute.gpu_claims(Surroundings(tmp_path))
        assert found.text == f"process {job.pid} holds GPU 1"
        job.communicate("")
    assert list(compute.gpu_claims(Surroundings(tmp_path))) == []
