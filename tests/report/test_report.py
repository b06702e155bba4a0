"""One call writes everything, and the same again."""

import pytest

from dctkd.errors import InputError
from dctkd.report import build, report_files


def test_build_writes_the_files_it_promises_and_the_same_bytes_again(small, tmp_path):
    first = build(small.folder, small.store, tmp_path / "new" / "first")
    tidy = first[0].read_bytes()
    assert first[0] == small.folder / "tidy.parquet"
    assert sorted(path.name for path in first[1:]) == sorted(report_files(small.plan()))
    assert sorted((tmp_path / "new" / "first").iterdir()) == sorted(first[1:])
    second = build(small.folder, small.store, tmp_path / "second")
    assert second[0].read_bytes() == tidy
    for one, two in zip(first[1:], second[1:], strict=True):
        assert one.read_bytes() == two.read_bytes(), one.name


def test_incomplete_experiment_writes_nothing(made_up):
    tree = made_up(absent=frozenset({("kd", 1)}))
    with pytest.raises(InputError, match="1 of 13 runs"):
        build(tree.folder, tree.store, tree.target)
    assert not tree.target.exists()
    assert not (tree.folder / "tidy.parquet").exists()


@pytest.mark.slow
def test_incomplete_experiment_can_be_built_in_part(made_up):
    tree = made_up(absent=frozenset({("kd", 1)}))
    build(tree.folder, tree.store, tree.target, partial=True)
    assert "11 of 12 student runs" in (tree.target / "accuracy.md").read_text()
