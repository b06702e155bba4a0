"""Weight files: what loads, what is refused, and pretrained weights without a network."""

import pickle
import socket
import threading
import time
import urllib.request
from pathlib import Path

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file

from dctkd import weights
from dctkd.errors import InputError
from dctkd.models import build_model, pretrained_sha256, state_dict_for_export
from dctkd.provenance import sha256_of_file
from dctkd.weights import read_weights, resolve_pretrained

torch.set_num_threads(1)

PRETRAINED = "test_resnet.r160_in1k"
TINY = {"layers": [1, 1, 1, 1], "channels": [4, 8, 8, 16]}


def _build(num_classes=7, *, options=TINY, **arguments):
    return build_model(
        "resnet18", num_classes=num_classes, stage_indices=(0,), input_size=32, options=options, **arguments
    )


@pytest.fixture
def trained():
    torch.manual_seed(11)
    return _build()


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """An empty local cache of the hub, with the network switched off."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


@pytest.fixture
def cached(hub_cache):
    """The cache holds weights of PRETRAINED, laid out as huggingface_hub documents it."""
    torch.manual_seed(12)
    state = timm.create_model("test_resnet", num_classes=1000).state_dict()
    folder = hub_cache / "models--timm--test_resnet.r160_in1k"
    snapshot = folder / "snapshots" / "0123456789abcdef"
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0123456789abcdef")
    save_file(state, snapshot / "model.safetensors")
    return snapshot / "model.safetensors", state


def _equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_exported_weights_load_back_exactly(trained, tmp_path, suffix):
    path = tmp_path / f"teacher{suffix}"
    state = state_dict_for_export(trained)
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    torch.manual_seed(99)
    assert _equal(state_dict_for_export(_build(weights=path)), state)


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_a_wrapped_checkpoint_of_a_parallel_network_is_unwrapped(trained, tmp_path, key):
    state = state_dict_for_export(trained)
    path = tmp_path / "wrapped.pth"
    torch.save({key: {f"module.{name}": value for name, value in state.items()}, "epoch": 3}, path)
    assert _equal(read_weights(path), state)


def test_another_class_count_is_refused_with_both_counts(trained, tmp_path):
    path = tmp_path / "teacher.safetensors"
    save_file(state_dict_for_export(trained), path)
    with pytest.raises(InputError, match=r"class count that does not match: .* has 7 classes, the data has 5"):
        _build(5, weights=path)


@pytest.mark.parametrize("num_classes", [5, 9])
def test_another_class_count_gives_the_classifier_of_a_fresh_network_where_it_may(trained, tmp_path, num_classes):
    path = tmp_path / "source.safetensors"
    save_file(state_dict_for_export(trained), path)
    torch.manual_seed(21)
    fresh = state_dict_for_export(_build(num_classes))
    after = torch.random.get_rng_state()
    torch.manual_seed(21)
    state = state_dict_for_export(_build(num_classes, weights=path, may_replace_classifier=True))
    assert torch.equal(torch.random.get_rng_state(), after)
    head = {"fc.weight", "fc.bias"}
    expected = {**state_dict_for_export(trained), **{name: fresh[name] for name in head}}
    assert _equal(state, expected)


def test_a_new_classifier_is_told_in_one_line(trained, tmp_path, caplog):
    path = tmp_path / "source.safetensors"
    save_file(state_dict_for_export(trained), path)
    with caplog.at_level("INFO", logger="dctkd"):
        _build(5, weights=path, may_replace_classifier=True)
    (line,) = caplog.messages
    assert line == f"weights {path}: classifier fc is for 7 classes, the data has 5: the network keeps a new one"


def test_an_equal_class_count_keeps_the_file_s_classifier(trained, tmp_path, caplog):
    path = tmp_path / "source.safetensors"
    save_file(state_dict_for_export(trained), path)
    with caplog.at_level("INFO", logger="dctkd"):
        state = state_dict_for_export(_build(7, weights=path, may_replace_classifier=True))
    assert _equal(state, state_dict_for_export(trained))
    assert caplog.messages == []


@pytest.mark.parametrize(
    "change",
    [
        {"fc.weight": torch.zeros(7, 17)},
        {"fc.bias": torch.zeros(6)},
        {"fc.weight": torch.zeros(7, 16, 1, 1)},
        {"fc.extra": torch.zeros(7)},
        {"fc.bias": None},
        {"bn1.bias": None},
        {"conv1.weight": torch.zeros(64, 3, 3, 3)},
    ],
    ids=lambda change: f"{next(iter(change))} {getattr(next(iter(change.values())), 'shape', 'missing')}",
)
def test_all_but_the_class_count_must_fit_where_a_classifier_may_be_new(trained, tmp_path, change):
    state = {name: value for name, value in (state_dict_for_export(trained) | change).items() if value is not None}
    save_file(state, tmp_path / "source.safetensors")
    with pytest.raises(InputError, match="do not fit the network"):
        _build(5, weights=tmp_path / "source.safetensors", may_replace_classifier=True)


def test_weights_of_other_options_are_refused(trained, tmp_path):
    path = tmp_path / "teacher.safetensors"
    save_file(state_dict_for_export(trained), path)
    with pytest.raises(InputError, match="do not fit the network"):
        _build(options={**TINY, "layers": [2, 1, 1, 1]}, weights=path)


def test_a_missing_key_is_refused(trained, tmp_path):
    state = state_dict_for_export(trained)
    del state["bn1.running_mean"]
    save_file(state, tmp_path / "teacher.safetensors")
    with pytest.raises(InputError, match=r"Missing key.*bn1\.running_mean"):
        _build(weights=tmp_path / "teacher.safetensors")


class _Payload:
    def __reduce__(self):
        return (Path.touch, (Path(self.target),))


def test_a_pickle_payload_is_refused_and_not_run(tmp_path):
    payload = _Payload()
    payload.target = str(tmp_path / "was_run")
    (tmp_path / "bad.pth").write_bytes(pickle.dumps(payload))
    torch.save({"fc.weight": torch.zeros(1), "extra": payload}, tmp_path / "worse.pth")
    for name in ("bad.pth", "worse.pth"):
        with pytest.raises(InputError, match="pickled objects are refused"):
            read_weights(tmp_path / name)
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize("content", [b"", b"not weights", b"\x00" * 64])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_damaged_file_is_refused(tmp_path, suffix, content):
    path = tmp_path / f"torn{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a checkpoint of tensors only"):
        read_weights(path)


def test_a_missing_file_and_another_kind_are_refused(tmp_path):
    with pytest.raises(InputError, match="there is no such file"):
        read_weights(tmp_path / "none.pth")
    with pytest.raises(InputError, match="expected a file that ends in"):
        read_weights(tmp_path / "none.onnx")


def test_pretrained_and_weights_exclude_each_other(tmp_path):
    with pytest.raises(InputError, match="exclude each other"):
        _build(weights=tmp_path / "x.pth", pretrained=True)


def _build_pretrained(num_classes, **options):
    return build_model(
        PRETRAINED, num_classes=num_classes, stage_indices=(0,), input_size=32, options=options, pretrained=True
    )


def test_cached_pretrained_weights_need_no_network(cached):
    path, _ = cached
    assert resolve_pretrained(PRETRAINED) == path
    assert pretrained_sha256(PRETRAINED) == sha256_of_file(path)


def test_pretrained_weights_fill_all_but_the_classifier(cached):
    _, state = cached
    torch.manual_seed(4)
    scratch = timm.create_model("test_resnet", num_classes=7).state_dict()
    torch.manual_seed(4)
    ours = state_dict_for_export(_build_pretrained(7))
    expected = {name: scratch[name] if name.startswith("fc.") else value for name, value in state.items()}
    assert _equal(ours, expected)


def test_pretrained_weights_do_not_move_the_random_state(cached):
    torch.manual_seed(4)
    timm.create_model("test_resnet", num_classes=7)
    expected = torch.random.get_rng_state()
    torch.manual_seed(4)
    _build_pretrained(7)
    assert torch.equal(torch.random.get_rng_state(), expected)


def test_the_pretrained_classifier_stays_for_as_many_classes(cached):
    _, state = cached
    assert _equal(state_dict_for_export(_build_pretrained(1000)), state)


def test_pretrained_weights_of_another_shape_are_refused(cached):
    with pytest.raises(InputError, match="timm cannot build it with options"):
        _build_pretrained(7, layers=[2, 2, 2, 2])


def test_offline_mode_asks_no_network(hub_cache, monkeypatch):
    asked = []
    monkeypatch.setattr(urllib.request, "urlopen", lambda request, timeout: asked.append(request))
    with pytest.raises(InputError, match=r"not in the local cache and huggingface\.co cannot be reached"):
        resolve_pretrained(PRETRAINED)
    assert asked == []


def test_a_name_server_that_does_not_answer_fails_within_seconds(hub_cache, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://hub.invalid")
    monkeypatch.setattr(weights, "HUB_TIMEOUT_S", 0.3)
    released = threading.Event()

    def look_up(*_arguments, **_options):
        released.wait(30)
        raise OSError("no answer")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    start_s = time.monotonic()
    with pytest.raises(InputError, match=r"hub\.invalid cannot be reached"):
        resolve_pretrained(PRETRAINED)
    released.set()
    assert time.monotonic() - start_s < 3


@pytest.mark.parametrize("listens", [True, False])
def test_a_hub_that_does_not_answer_fails_within_seconds(hub_cache, monkeypatch, listens):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(weights, "HUB_TIMEOUT_S", 0.3)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listens:
            server.listen()  # takes the connection and stays silent
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        start_s = time.monotonic()
        with pytest.raises(InputError, match=r"127\.0\.0\.1:\d+ cannot be reached"):
            resolve_pretrained(PRETRAINED)
        assert time.monotonic() - start_s < 3


def test_unknown_pretrained_weights_are_refused_with_a_near_miss():
    with pytest.raises(InputError, match=r"did you mean .*'resnet50\.tv_in1k'"):
        resolve_pretrained("resnet50.tv_in2k")
