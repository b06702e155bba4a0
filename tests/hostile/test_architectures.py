"""Networks that timm would take from elsewhere, and options by which it would load files, are refused unread."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.bad_input.command import assert_refused, write
from tests.conftest import TINY

REPOSITORY = Path(__file__).parents[2]
ELSEWHERE = (
    "hf-hub:timm/resnet18.a1_in1k",
    "hf_hub:timm/resnet18",
    "HF-HUB:timm/resnet18",
    "local-dir:SECRET",
    "local_dir:SECRET",
    "timm/resnet18.a1_in1k",
    "./SECRET",
    "../../etc/passwd",
    "file:///etc/passwd",
    "https://example.org/resnet18",
    "resnet18.hf-hub:timm/resnet18",
    "resnet18./SECRET",
    "",
    " ",
    "resnet18 ",
)
LOADING = {
    "checkpoint_path": "SECRET/weights.pth",
    "pretrained_cfg": {"file": "SECRET/weights.pth"},
    "pretrained_cfg_overlay": {"file": "SECRET/weights.pth", "custom_load": True},
    "pretrained": True,
    "pretrained_strict": False,
    "pretrained_filter_fn": "os.system",
    "pretrained_model_args": {"a": 1},
    "cache_dir": "SECRET",
    "model_cls": "os.system",
    "model_cfg": {"a": 1},
    "variant": "SECRET",
    "feature_cfg": {"feature_cls": "fx"},
    "features_only": True,
    "kwargs_filter": ["layers"],
    "pruned": True,
    "scriptable": True,
    "exportable": True,
    "no_jit": True,
    "device": "cuda",
    "dtype": "float64",
    "num_classes": 3,
    "in_chans": 1,
}
DOTTED = ("act_layer", "norm_layer", "aa_layer", "drop_block", "block", "attn_layer", "global_pool", "init_values")
PLAN_OF = ["plan", "--config", "tiny.yaml"]


def _tiny(**wide):
    raw = copy.deepcopy(TINY)
    raw["models"]["wide"].update(wide)
    return raw


@pytest.mark.parametrize("architecture", ELSEWHERE)
def test_an_architecture_from_elsewhere_is_refused(tmp_path, monkeypatch, capsys, architecture):
    monkeypatch.chdir(tmp_path)
    write(_tiny(architecture=architecture))
    assert_refused(monkeypatch, capsys, PLAN_OF, ["tiny.yaml: model "])


@pytest.mark.parametrize(("option", "value"), LOADING.items(), ids=LOADING.keys())
def test_an_option_by_which_timm_would_load_something_is_refused(tmp_path, monkeypatch, capsys, option, value):
    monkeypatch.chdir(tmp_path)
    write(_tiny(options={option: value}))
    assert_refused(monkeypatch, capsys, PLAN_OF, [f"model resnet18: {option} is not an option: "])


@pytest.mark.parametrize("option", DOTTED)
def test_a_dotted_name_as_an_option_is_not_imported(tmp_path, monkeypatch, capsys, option):
    monkeypatch.chdir(tmp_path)
    write(_tiny(options={option: "os.system"}))
    assert_refused(monkeypatch, capsys, PLAN_OF, ["tiny.yaml: model resnet18"])


HOSTILE = {
    "harmless": {},
    "hub": {"architecture": "hf-hub:timm/resnet18.a1_in1k"},
    "folder": {"architecture": "local-dir:SECRET"},
    "checkpoint": {"options": {"checkpoint_path": "SECRET/weights.pth"}},
    "overlay": {"options": {"pretrained_cfg_overlay": {"file": "SECRET/weights.pth"}}},
    "dotted": {"options": {"act_layer": "os.system"}},
    "module": {"options": {"norm_layer": "SECRET.norm"}},
}


def test_a_hostile_experiment_reaches_no_network_no_program_and_no_other_file(tmp_path):
    secret = tmp_path / "SECRET"
    secret.mkdir()
    for name in ("weights.pth", "config.json", "model.safetensors", "norm.py", "__init__.py"):
        (secret / name).write_text("{}")
    for name, wide in HOSTILE.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(_tiny(**wide)))
    script = [sys.executable, str(REPOSITORY / "tests/hostile/audited.py"), str(REPOSITORY)]
    files = [f"{name}.yaml" for name in HOSTILE]
    done = subprocess.run([*script, *files], cwd=tmp_path, capture_output=True, text=True, check=False)
    results = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    assert results == [f"RESULT {name}.yaml {2 if wide else 0} []" for name, wide in HOSTILE.items()], done.stderr
