"""What another process says about torch: also where it is broken, crashes or hangs."""

import os

import pytest

from dctkd.doctor import torch_process
from dctkd.doctor.torch_process import ask_torch

FAKE = """
__version__ = "9.9.0"
class version:
    cuda = "13.2"
class cuda:
    is_available = staticmethod(lambda: True)
    device_count = staticmethod(lambda: 1)
    mem_get_info = staticmethod(lambda number: (3, 4))
    get_device_name = staticmethod(lambda number: "fake")
"""


@pytest.fixture
def fake_torch(tmp_path, monkeypatch):
    """Return a function that puts a torch of this text before the real one."""

    def write(text):
        (tmp_path / "torch.py").write_text(text)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)

    return write


def test_devices_come_with_their_memory(fake_torch):
    fake_torch(FAKE)
    device = {"name": "fake", "free_bytes": 3, "total_bytes": 4}
    assert ask_torch() == {"version": "9.9.0", "cuda": "13.2", "devices": [device], "warning": ""}


def test_what_torch_warns_of_is_kept(fake_torch):
    fake_torch(FAKE.replace("lambda: True", "lambda: __import__('warnings').warn('driver too old')"))
    answer = ask_torch()
    assert (answer["devices"], answer["warning"]) == ([], "driver too old")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("raise ImportError('libgomp.so.1: cannot open')", "ImportError: libgomp.so.1: cannot open"),
        ("import os; os.kill(os.getpid(), 9)", "its process ended with status -9"),
        ("import sys; sys.exit(3)", "its process ended with status 3"),
    ],
)
def test_a_broken_torch_is_one_line(fake_torch, text, error):
    fake_torch(text)
    assert ask_torch() == {"error": error}


def test_a_torch_that_hangs_is_given_up(fake_torch, monkeypatch):
    fake_torch("import signal; signal.pause()")
    monkeypatch.setattr(torch_process, "TIMEOUT_S", 0.5)
    assert ask_torch() == {"error": "no answer in 0 s"}
