"""One call writes everything, and the same again."""

import os
import resource
import subprocess
import sys
import textwrap

import pytest

from dctkd.errors import InputError
from dctkd.report import build, report_files

from .conftest import MadeUp

EVERYTHING = {
    "datasets": ("ade20k", "mit67"),
    "pairs": (("resnet50", "resnet18"), ("resnet50", "mobilenetv2")),
    "methods": ("baseline", "at", "at-1", "at-2", "at-3"),
    "weights": {"at-1": 1.0, "at-2": 2.0, "at-3": 3.0},
    "reported": ("p1",),
}
"""What makes a report write every kind of file."""


@pytest.mark.slow
def test_build_writes_the_files_it_promises_and_the_same_bytes_in_other_processes(made_up, tmp_path):
    tree = made_up(**EVERYTHING)
    first = build(tree.folder, tree.store, tmp_path / "new" / "first")
    assert first[0] == tree.folder / "tidy.parquet"
    assert sorted(path.name for path in first[1:]) == sorted(report_files(tree.plan()))
    assert sorted((tmp_path / "new" / "first").iterdir()) == sorted(first[1:])
    second = tmp_path / "second"
    build_elsewhere(tree, second, workers=2)
    for path in first[1:]:
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name


@pytest.mark.slow
def test_paper_sized_experiment_takes_less_than_a_minute_and_no_torch(tmp_path):
    features = ("at", "fitnets", "vid", "crd", "review", "dct", "fam", "pkt", "semckd")
    pairs = (("resnet50", "resnet18"), ("resnet152", "resnet34"), ("resnet50", "mobilenetv2"))
    methods = ("baseline", "kd", *features, *(f"{name}+kd" for name in features))
    datasets = ("ade20k", "sun397", "mit67")
    tree = MadeUp(tmp_path, datasets=datasets, pairs=pairs, methods=methods, reported=("p1",)).write()
    assert len(tree.plan().runs) == 540
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    build_elsewhere(tree, tree.target, workers=1)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Seconds of computing, for the clock of a machine that does other things too says nothing; about 26 in one thread.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 60
    assert len(list(tree.target.iterdir())) == len(report_files(tree.plan()))


def build_elsewhere(tree, target, *, workers):
    """Build in processes of its own with another hash seed, another back end and another time, without torch."""
    code = f"""
        import sys
        from pathlib import Path
        from dctkd.report import build
        build(Path({str(tree.folder)!r}), Path({str(tree.store)!r}), Path({str(target)!r}), workers={workers})
        assert not {{"torch", "timm"}} & set(sys.modules)
    """
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "MPLBACKEND": "svg", "SOURCE_DATE_EPOCH": "1000000000"}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, env=environment)


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
