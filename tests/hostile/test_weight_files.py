"""Weight files that lie or would run code are refused in one line, and nothing of them is run."""

import io
import json
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dctkd.errors import InputError
from dctkd.models import build_model
from dctkd.weights import read_weights

OPTIONS = {"layers": [1, 1, 1, 1], "channels": [4, 4, 8, 8]}


class Payload:
    """Writes a file when it is unpickled."""

    def __reduce__(self):
        return Path("executed").write_text, ("yes",)


class TorchPayload(Payload):
    """The same behind a name that torch might trust."""

    def __reduce__(self):
        return torch.serialization.os.system, ("touch executed",)


def _zip(path, payload):
    torch.save(payload, path)


def _legacy(path, payload):
    torch.save(payload, path, _use_new_zipfile_serialization=False)


def _bare_pickle(path, payload):
    path.write_bytes(pickle.dumps(payload))


def _tar(path, payload):
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            content = pickle.dumps(payload)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def _zip_of_pickle(path, payload):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(payload))
        archive.writestr("archive/version", "3\n")


CONTAINERS = (_zip, _legacy, _bare_pickle, _tar, _zip_of_pickle)
PAYLOADS = {
    "alone": Payload,
    "behind torch": TorchPayload,
    "a value": lambda: {"conv1.weight": Payload()},
    "a key": lambda: {(Payload(),): torch.zeros(1)},
    "metadata beside tensors": lambda: {"state_dict": {"fc.weight": torch.zeros(2, 2)}, "args": [Payload()]},
    "nested": lambda: {"model": {"fc.weight": torch.zeros(1), "deep": [[{"x": (Payload(),)}]]}},
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".tar"])
def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path, monkeypatch, container, payload, suffix):
    monkeypatch.chdir(tmp_path)
    path = Path(f"evil{suffix}")
    container(path, payload())
    with pytest.raises(InputError, match="not a checkpoint of tensors only"):
        read_weights(path)
    assert not Path("executed").exists()


def _safetensors(header, body=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def _entry(start, end, shape=(1,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


LIES = {
    "empty": b"",
    "html": b"<!doctype html><html>404</html>",
    "no header": b"\x08",
    "huge header": _safetensors({}, length=2**63 - 1),
    "header beyond the file": _safetensors({}, length=10_000),
    "header of a terabyte": _safetensors({}, length=2**40),
    "no json": _safetensors(b"{{{"),
    "no object": _safetensors(b"[1]"),
    "deep": _safetensors(b"[" * 100_000),
    "overlap": _safetensors({"a": _entry(0, 4), "b": _entry(0, 4)}, bytes(8)),
    "hole": _safetensors({"a": _entry(0, 4), "b": _entry(8, 12)}, bytes(12)),
    "beyond the file": _safetensors({"a": _entry(0, 4000)}, bytes(4)),
    "backwards": _safetensors({"a": _entry(4, 0)}, bytes(4)),
    "shape too large": _safetensors({"a": _entry(0, 4, (2**40, 2**40))}, bytes(4)),
    "negative shape": _safetensors({"a": _entry(0, 4, (-1,))}, bytes(4)),
    "unknown dtype": _safetensors({"a": _entry(0, 4, dtype="EVIL")}, bytes(4)),
    "a pickle inside": pickle.dumps(Payload()),
    "rest": _safetensors({"a": _entry(0, 4)}, bytes(4096)),
}


@pytest.mark.parametrize("content", LIES.values(), ids=LIES.keys())
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_that_lies_about_itself_is_refused(tmp_path, monkeypatch, content, suffix):
    monkeypatch.chdir(tmp_path)
    path = Path(f"lies{suffix}")
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a checkpoint of tensors only"):
        read_weights(path)
    assert not Path("executed").exists()


def _build(path):
    build_model("resnet18", num_classes=4, stage_indices=[0], input_size=32, options=OPTIONS, weights=path)


@pytest.fixture
def state():
    model = build_model("resnet18", num_classes=4, stage_indices=[0], input_size=32, options=OPTIONS)
    return {name: tensor.clone() for name, tensor in model.net.state_dict().items()}


CHANGES = {
    "a class more": (lambda s: s.update({"fc.weight": torch.zeros(5, 8), "fc.bias": torch.zeros(5)}), "5 classes"),
    "a key more": (lambda s: s.update(extra=torch.zeros(1)), "do not fit the network"),
    "a key less": (lambda s: s.pop("conv1.weight"), "do not fit the network"),
    "another shape": (lambda s: s.update({"conv1.weight": torch.zeros(1)}), "do not fit the network"),
    "a classifier without axes": (lambda s: s.update({"fc.weight": torch.tensor(1.0)}), "do not fit the network"),
    "nothing": (lambda s: s.clear(), "do not fit the network"),
}


@pytest.mark.parametrize(("change", "words"), CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_of_another_network_are_refused(tmp_path, state, change, words, suffix):
    change(state)
    path = tmp_path / f"other{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    with pytest.raises(InputError, match=words):
        _build(path)


NO_TENSORS = {
    "a number": lambda: {"fc.weight": 3},
    "text": lambda: {"fc.weight": "x"},
    "a list": lambda: [torch.zeros(1)],
    "a tensor": lambda: torch.zeros(1),
    "numbers as keys": lambda: {0: torch.zeros(1)},
    "a state that is none": lambda: {"state_dict": 3},
}


@pytest.mark.parametrize("content", NO_TENSORS.values(), ids=NO_TENSORS.keys())
def test_a_checkpoint_of_something_else_is_refused(tmp_path, content):
    path = tmp_path / "odd.pth"
    torch.save(content(), path)
    with pytest.raises(InputError, match="not a checkpoint of tensors only"):
        read_weights(path)


def test_half_a_file_is_refused(tmp_path, state):
    for suffix, save in ((".pth", torch.save), (".safetensors", save_file)):
        path = tmp_path / f"half{suffix}"
        save(state, path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(InputError, match="not a checkpoint of tensors only"):
            read_weights(path)
