"""Weight files: local ones are read without running code; timm's pretrained ones are found, fetched, hashed."""

from __future__ import annotations

import difflib
import logging
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dctkd.errors import InputError, did_you_mean, is_out_of_memory, shown
from dctkd.provenance import sha256_of_file

if TYPE_CHECKING:
    from torch import Tensor, nn

logger = logging.getLogger(__name__)

HUB_TIMEOUT_S = 2.0
"""Longest wait for the hub's first answer; the hub's own client retries for 46 s before it says that it is offline."""

HUB_FILENAMES = ("model.safetensors", "pytorch_model.bin")
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".tar")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a plain checkpoint: a safetensors file, or one of torch.save that holds tensors and no other objects.

    A dictionary wrapped as `state_dict` or `model` is unwrapped, and the prefixes of DistributedDataParallel and
    torch.compile are cut off.

    Args:
        path: A .safetensors file, or .pth, .pt, .bin, .tar as torch.save writes it.

    Returns:
        Tensors on the CPU by parameter name.

    Raises:
        InputError: If the file is missing, of another kind, damaged, or holds pickled objects, which are never run.
    """
    from timm.models import load_state_dict
    from torch import Tensor

    if path.suffix not in SUFFIXES:
        raise InputError(f"weights {path}: expected a file that ends in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise InputError(f"weights {path}: there is no such file")
    try:
        state: dict[str, Tensor] = load_state_dict(str(path), use_ema=False, weights_only=True)
        if odd := [name for name, value in state.items() if not isinstance(value, Tensor)]:
            raise TypeError(f"{shown(odd[0])} is no tensor")
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise InputError(
            f"weights {path}: not a checkpoint of tensors only ({describe_error(error)}); pickled objects are refused "
            "because loading them runs code: save the model's state_dict(), best as .safetensors"
        ) from error
    return state


def load_exactly(net: nn.Module, state: dict[str, Tensor], *, source: str) -> None:
    """Load a checkpoint into a network of the same shape, every key of it.

    Args:
        net: Network of timm, changed in place.
        state: Tensors by name.
        source: Where the tensors come from, for messages.

    Raises:
        InputError: If keys or shapes do not fit.
    """
    try:
        net.load_state_dict(state, strict=True)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise InputError(
            f"weights {source}: they do not fit the network ({describe_error(error)}); architecture and options must "
            "be those of the file"
        ) from error


def require_classifier(
    net: nn.Module, state: dict[str, Tensor], *, source: str, classifier: str, num_classes: int
) -> dict[str, Tensor]:
    """Return a checkpoint as it is; arguments as of `fit_classifier`.

    Raises:
        InputError: If its classifier is for another number of classes.
    """
    count = _num_classes_of(state, classifier)
    if count not in (None, num_classes):
        raise InputError(
            f"weights {source}: class count that does not match: the file's classifier {classifier} has {count} "
            f"classes, the data has {num_classes}; give weights that were trained on these classes, or train the "
            "network (epochs above 0), which gives it a new classifier"
        )
    return state


def fit_classifier(
    net: nn.Module, state: dict[str, Tensor], *, source: str, classifier: str, num_classes: int
) -> dict[str, Tensor]:
    """Return a checkpoint with the network's own classifier where the file's differs in the number of classes alone.

    What does not fit otherwise is left for `load_exactly` to refuse.

    Args:
        net: Network of timm that the checkpoint is for; not changed.
        state: Tensors by name.
        source: Where the tensors come from, for messages.
        classifier: Name of the classifier's module.
        num_classes: Number of classes that the network has.
    """
    count = _num_classes_of(state, classifier)
    expected = {
        name: _shape_for(value, num_classes, count) for name, value in _part_of(net.state_dict(), classifier).items()
    }
    differs_in_that_alone = {name: value.shape for name, value in _part_of(state, classifier).items()} == expected
    if count in (None, num_classes) or not differs_in_that_alone:
        return state
    logger.info(
        "weights %s: classifier %s is for %s classes, the data has %s: the network keeps a new one",
        source,
        classifier,
        count,
        num_classes,
    )
    return with_classifier_of(net, state, classifier)


def with_classifier_of(net: nn.Module, state: dict[str, Tensor], classifier: str) -> dict[str, Tensor]:
    """Return a checkpoint whose classifier is replaced by a network's own."""
    own, theirs = _part_of(net.state_dict(), classifier), _part_of(state, classifier)
    return {name: value for name, value in state.items() if name not in theirs} | own


def _part_of(state: dict[str, Tensor], module: str) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if name.startswith(f"{module}.")}


def _num_classes_of(state: dict[str, Tensor], classifier: str) -> int | None:
    """Number of classes of a checkpoint's classifier, None if its weight is not there or no matrix."""
    weight = state.get(f"{classifier}.weight")
    return weight.shape[0] if weight is not None and weight.ndim else None


def _shape_for(own: Tensor, num_classes: int, count: int | None) -> tuple[int | None, ...]:
    """Shape of a classifier's tensor if it were for `count` instead of `num_classes` classes."""
    is_per_class = own.ndim > 0 and own.shape[0] == num_classes
    return (count, *own.shape[1:]) if is_per_class else tuple(own.shape)


def resolve_pretrained(architecture: str) -> Path:
    """Return the local file of timm's pretrained weights: from the cache, else downloaded.

    Args:
        architecture: timm name with the tag that tells which weights (`resnet50.tv_in1k`); without it timm's default.

    Returns:
        Path in the Hugging Face cache (or that of torch.hub, for weights that are not on the hub).

    Raises:
        InputError: If there are no such weights, or they are not cached and the hub does not answer within seconds.
    """
    cfg = pretrained_config(architecture)
    cached = _cached_file(cfg)
    if cached is not None:
        return cached
    address = _address(cfg)
    where = cfg.hf_hub_id or cfg.url
    if not _is_online(address):
        raise InputError(
            f"model {architecture}: its pretrained weights ({where}) are not in the local cache and "
            f"{urlsplit(address).netloc} cannot be reached; fetch them once where there is a network, "
            "or give a local file as `weights`, or set `pretrained: false`"
        )
    try:
        return _download(cfg)
    except Exception as error:
        raise InputError(
            f"model {architecture}: its pretrained weights ({where}) cannot be fetched ({describe_error(error)})"
        ) from error


def where_pretrained(architecture: str) -> tuple[Path | None, bool]:
    """Return the cached file of timm's pretrained weights, or None, and whether they can be had; fetches nothing.

    Raises:
        InputError: If timm has no weights of that name and tag.
    """
    cfg = pretrained_config(architecture)
    cached = _cached_file(cfg)
    return cached, cached is not None or _is_online(_address(cfg))


def pretrained_sha256(architecture: str) -> str:
    """Return the hex SHA-256 of timm's pretrained weights, fetched if not cached; raises as `resolve_pretrained`."""
    return sha256_of_file(resolve_pretrained(architecture))


def pretrained_config(architecture: str) -> Any:
    """Return timm's record of pretrained weights: where they are, how many classes, the name of the classifier.

    Raises:
        InputError: If timm has no weights of that name and tag; near misses are suggested.
    """
    import timm

    try:
        cfg = timm.get_pretrained_cfg(architecture)
    except (RuntimeError, LookupError):
        cfg = None
    if cfg is None or not (cfg.hf_hub_id or cfg.url):
        names = timm.list_pretrained(f"{architecture.split('.')[0]}*")
        near = difflib.get_close_matches(architecture, names, n=2, cutoff=0.3)
        suffix = did_you_mean(architecture, near) if near else "; timm.list_pretrained() lists what there is"
        raise InputError(f"model {architecture}: timm has no pretrained weights of that name and tag{suffix}")
    return cfg


def describe_error(error: BaseException) -> str:
    """Return an error's type and message as one short line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text if len(text) <= 240 else text[:240] + ' ...'}"


def _hub_names(cfg: Any) -> tuple[str, str | None, tuple[str, ...]]:
    """Repository, revision and possible file names on the hub, best first."""
    repository, _, revision = cfg.hf_hub_id.partition("@")
    return repository, revision or None, (cfg.hf_hub_filename,) if cfg.hf_hub_filename else HUB_FILENAMES


def _cached_file(cfg: Any) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    if not cfg.hf_hub_id:
        file = _file_of_url(cfg.url)
        return file if file.is_file() else None
    repository, revision, filenames = _hub_names(cfg)
    for filename in filenames:
        found = try_to_load_from_cache(repository, filename, revision=revision)
        if isinstance(found, str):
            return Path(found)
    return None


def _download(cfg: Any) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError
    from torch.hub import download_url_to_file

    if not cfg.hf_hub_id:
        file = _file_of_url(cfg.url)
        file.parent.mkdir(parents=True, exist_ok=True)
        download_url_to_file(cfg.url, str(file), progress=False)
        return file
    repository, revision, filenames = _hub_names(cfg)
    for filename in filenames[:-1]:
        try:
            return Path(hf_hub_download(repository, filename, revision=revision))
        except EntryNotFoundError:
            continue
    return Path(hf_hub_download(repository, filenames[-1], revision=revision))


def _file_of_url(url: str) -> Path:
    """Where torch.hub keeps a file that it has fetched."""
    from torch.hub import get_dir

    return Path(get_dir()) / "checkpoints" / Path(urlsplit(url).path).name


def _address(cfg: Any) -> str:
    return _hub_endpoint() if cfg.hf_hub_id else str(cfg.url)


def _hub_endpoint() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def _is_online(address: str) -> bool:
    """Whether the host answers within HUB_TIMEOUT_S; HF_HUB_OFFLINE and the environment's proxies are heeded."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    answers: list[bool] = []

    def knock() -> None:
        try:
            request = urllib.request.Request(address, method="HEAD")
            with urllib.request.urlopen(request, timeout=HUB_TIMEOUT_S):
                answers.append(True)
        except urllib.error.HTTPError:
            answers.append(True)  # any status line, a refusal too, comes from a host that is there
        except OSError:
            answers.append(False)

    # In a thread, because looking up the host's name ignores the timeout of the request.
    thread = threading.Thread(target=knock, daemon=True)
    thread.start()
    thread.join(HUB_TIMEOUT_S)
    return answers == [True]
