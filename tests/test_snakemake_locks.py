"""Locks of a Snakemake that is no more are removed; those of a living one, and of others, are not."""

import pytest

from dctkd.locks import try_lock
from dctkd.snakemake_locks import clear_stale_locks


@pytest.fixture
def folder(tmp_path):
    """Snakemake's folder with the locks that it makes."""
    folder = tmp_path / ".snakemake"
    (folder / "locks").mkdir(parents=True)
    (folder / "locks/0.input.lock").write_text("results/demo/x/data.json\npaper_tables/reported/p1.csv\n")
    (folder / "locks/0.output.lock").write_text("results/demo/x/teachers/wide/seed0/teacher.json\n")
    return folder


def names(folder):
    return sorted(path.name for path in (folder / "locks").iterdir())


def test_where_no_other_lives_locks_on_this_suite_s_files_are_removed_and_that_is_said(folder, capsys):
    clear_stale_locks(folder)
    assert names(folder) == []
    assert "nobody holds them any more" in capsys.readouterr().err


def test_where_another_lives_they_stay(folder, capsys):
    with try_lock(folder / "dctkd/1-other.lock"):
        clear_stale_locks(folder)
    assert names(folder) == ["0.input.lock", "0.output.lock"]
    assert capsys.readouterr().err == ""


def test_locks_on_other_files_stay(folder):
    (folder / "locks/1.output.lock").write_text("results/demo/a.json\nreads/a.fastq\n")
    (folder / "locks/2.output.lock").write_text("")
    clear_stale_locks(folder)
    assert names(folder) == ["1.output.lock", "2.output.lock"]


def test_it_registers_itself_and_forgets_the_dead(folder):
    (folder / "dctkd").mkdir()
    (folder / "dctkd/1-dead.lock").write_text("")
    clear_stale_locks(folder)
    (mine,) = (folder / "dctkd").iterdir()
    assert try_lock(mine) is None, "held for as long as this process lives"


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    clear_stale_locks(tmp_path / "file")
    assert capsys.readouterr().err.startswith(f"warning: {tmp_path / 'file'}: no looking for stale locks")
