"""Figures are drawn side by side, and an error says in which figure it arose."""

import pytest

from dctkd.errors import InputError
from dctkd.report.collect import gather
from dctkd.report.drawing import draw_figures
from dctkd.report.figures.style import render
from tests.report.attention_files import folder_of, write_all


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """Return a tree in which the maps of a run are no maps."""
    from tests.report.conftest import MadeUp

    tree = write_all(MadeUp(tmp_path_factory.mktemp("damaged"), methods=("baseline", "kd"), seeds=(0,)).write())
    (folder_of(tree, "kd", 0) / "maps.npz").write_bytes(b"PK")
    return tree


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_an_error_arrives_with_the_name_of_its_figure(damaged, tmp_path, workers):
    collected = gather(damaged.folder, damaged.store)
    with pytest.raises(InputError, match=r"^figure montage: .*maps\.npz"):
        draw_figures(collected, damaged.store, tmp_path, workers=workers)


def test_an_error_that_nobody_expects_is_of_its_own_kind_and_names_the_figure():
    def fail():
        raise LookupError("no such axes")

    with pytest.raises(LookupError, match="no such axes") as caught:
        render("spectra", fail)
    assert caught.value.__notes__ == ["This happened in figure spectra."]
