import subprocess
import sys

import pytest

from dctkd.data import formats
from dctkd.errors import InputError


def test_an_unknown_format_suggests_the_nearest():
    with pytest.raises(
        InputError, match=r"^datasets\.x\.format: unknown format 'miniplace'; did you mean 'miniplaces'\?$"
    ):
        formats.get("miniplace", "datasets.x")


def test_an_unknown_option_suggests_the_nearest():
    with pytest.raises(
        InputError, match=r"^datasets\.x\.options: unknown key .num_clases.; did you mean 'num_classes'"
    ):
        formats.parse_options("miniplaces", {"num_clases": 3}, "datasets.x")


def test_an_option_out_of_range_is_named():
    with pytest.raises(InputError, match=r"^datasets\.x\.options\.num_classes: .*2.*got 1"):
        formats.parse_options("miniplaces", {"num_classes": 1}, "datasets.x")


def test_every_format_has_options_with_defaults_and_the_function_of_its_kind():
    for name, row in formats.FORMATS.items():
        module = __import__(row.module, fromlist=["Options"])
        assert formats.parse_options(name, {}) == row.options_type(), name
        assert hasattr(module, {"photographs": "read_manifest", "rendered": "render"}[row.kind]), name


def test_options_are_checked_without_torch_pil_or_numpy():
    code = (
        "import sys, dctkd.data; from dctkd.data import formats;"
        "[formats.parse_options(name, {}) for name in formats.FORMATS];"
        "print(sorted({'torch', 'PIL', 'numpy', 'timm', 'torchvision'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
