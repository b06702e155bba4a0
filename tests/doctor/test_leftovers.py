"""What is locked, failed or left behind."""

import os
import time
from base64 import urlsafe_b64encode

import pytest

from dctkd.doctor import leftovers
from dctkd.doctor.processes import Process
from dctkd.store import Store


@pytest.fixture
def at_work(monkeypatch):
    """Return a function that lets these processes work in the folder; at first there are none."""

    def set_processes(*processes):
        monkeypatch.setattr(leftovers, "processes_in", lambda _: list(processes))

    set_processes()
    return set_processes


@pytest.fixture(autouse=True)
def _disk_of_this_machine(monkeypatch, at_work):
    monkeypatch.setattr(leftovers, "kind_of_file_system", lambda _: ("ext4", "/dev/vda"))


def write(path, text="x", age_s=0.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (time.time() - age_s, time.time() - age_s))
    return path


def test_a_fresh_folder_has_no_leftovers(surroundings):
    assert [finding for check in leftovers.CHECKS for finding in check(surroundings)] == []


def test_orphans_are_a_warning_with_the_signal_that_saves(surroundings, at_work):
    at_work(
        Process(12, "dctkd", "train", True),
        Process(13, "dctkd", "data", True),
        Process(14, "snakemake", "-c", False),
    )
    watched, orphans = leftovers.running(surroundings)
    assert (watched.state, watched.text) == ("note", "at work in this folder: snakemake -c (14)")
    assert (orphans.state, orphans.remedy) == ("warning", "kill -TERM 12 13")


def test_a_lock_of_a_dead_snakemake_on_our_files_is_a_note_the_next_one_removes_it(surroundings):
    write(surroundings.folder / ".snakemake/locks/0.input.lock", "results/tiny/data.json\n")
    (found,) = leftovers.snakemake_locks(surroundings)
    assert (found.state, found.remedy) == ("note", None)


def test_a_lock_of_a_dead_snakemake_on_other_files_is_a_problem(surroundings):
    write(surroundings.folder / ".snakemake/locks/0.input.lock", "reads/a.fastq\n")
    (found,) = leftovers.snakemake_locks(surroundings)
    assert (found.state, found.remedy) == ("problem", "snakemake --unlock --cores 1")


def test_a_lock_of_a_living_snakemake_is_a_note(surroundings, at_work):
    at_work(Process(14, "snakemake", "--cores", False))
    write(surroundings.folder / ".snakemake/locks/0.input.lock")
    (found,) = leftovers.snakemake_locks(surroundings)
    assert (found.state, found.text) == ("note", "held by process 14")


def test_a_lock_on_a_network_disk_may_be_another_hosts(surroundings, monkeypatch):
    monkeypatch.setattr(leftovers, "kind_of_file_system", lambda _: ("nfs4", "server:/x"))
    write(surroundings.folder / ".snakemake/locks/0.input.lock")
    (found,) = leftovers.snakemake_locks(surroundings)
    assert (found.state, found.remedy) == ("warning", "snakemake --unlock --cores 1")


@pytest.mark.parametrize("name", ["results/tiny/shapes/data.json", "results/" + "long/" * 60 + "metrics.json"])
def test_outputs_of_jobs_that_were_cut_off_are_named(surroundings, name):
    code = urlsafe_b64encode(name.encode()).decode()
    parts = [code[first : first + 254] for first in range(0, len(code), 254)]
    write(surroundings.folder.joinpath(".snakemake/incomplete", *[f"@{part}" for part in parts[:-1]], parts[-1]))
    (found,) = leftovers.incomplete_outputs(surroundings)
    assert (found.state, found.remedy) == ("note", None)
    assert f"1 output left incomplete ({name})" in found.text


def test_a_marker_that_is_no_name_does_not_matter(surroundings):
    write(surroundings.folder / ".snakemake/incomplete/not-base64!")
    assert "not-base64!" in next(leftovers.incomplete_outputs(surroundings)).text


def test_outputs_of_a_living_snakemake_are_not_incomplete(surroundings, at_work):
    at_work(Process(14, "snakemake", "--cores", False))
    write(surroundings.folder / ".snakemake/incomplete/eA==")
    assert list(leftovers.incomplete_outputs(surroundings)) == []


def test_a_run_in_work_is_told_with_its_process(surroundings):
    folder = Store(surroundings.results).folder("a" * 32)
    with folder.claim():
        (found,) = leftovers.runs(surroundings)
    assert (found.check, found.state) == ("runs in work", "note")
    assert found.text.startswith(f"1 run by process {os.getpid()} on ")
    assert list(leftovers.runs(surroundings)) == []


def test_a_stopped_run_is_a_note(surroundings):
    Store(surroundings.results).folder("a" * 32).claim().release()
    Store(surroundings.results).folder("a" * 32).write_state({"step": 3, "total_steps": 9})
    (found,) = leftovers.runs(surroundings)
    assert (found.state, found.text) == ("note", "1 run to go on when snakemake runs again")


def test_failed_runs_are_warnings_by_reason_with_their_log(surroundings):
    store = Store(surroundings.results)
    for number, reason in enumerate(["RuntimeError: a\nb", "RuntimeError: a\nb", "OSError: c"]):
        folder = store.folder(str(number) * 32)
        folder.path.mkdir(parents=True)
        folder.write_state({"status": "failed", "reason": reason})
    first, second = leftovers.runs(surroundings)
    assert (first.state, first.text) == ("warning", "2 runs: RuntimeError: a b; the next snakemake tries again")
    assert first.remedy == f"tail -n 30 results/store/{'0' * 32}/log.txt"
    assert second.remedy == f"tail -n 30 results/store/{'2' * 32}/log.txt"


def test_many_reasons_are_cut_short(surroundings):
    for number in range(5):
        folder = Store(surroundings.results).folder(str(number) * 32)
        folder.path.mkdir(parents=True)
        folder.write_state({"status": "failed", "reason": f"reason {number}"})
    found = list(leftovers.runs(surroundings))
    assert len(found) == 4
    assert found[-1].text.startswith("2 other reasons")


def test_a_finished_run_is_not_mentioned(surroundings):
    folder = Store(surroundings.results).folder("a" * 32)
    folder.path.mkdir(parents=True)
    folder.write_state({"status": "failed", "reason": "before it was tried again"})
    folder.finish({"status": "ok"})
    assert list(leftovers.runs(surroundings)) == []


def test_a_packing_that_was_stopped_is_told_with_what_deletes_it(surroundings):
    part = surroundings.results / "cache/.mit67-0123.abcd.part"
    write(part / "journal.jsonl", "[]\n", age_s=3600)
    write(part / "cache/train/pixels.bin", "x" * 3_000_000)
    (found,) = leftovers.packings(surroundings)
    assert (found.state, found.remedy) == ("note", "rm -r results/cache/.mit67-0123.abcd.part")
    assert found.text.startswith("mit67-0123 is not finished (3.0 MB)")


def test_a_packing_that_goes_on_is_not_to_be_deleted(surroundings):
    write(surroundings.results / "cache/.mit67-0123.abcd.part/journal.jsonl", "[]\n")
    (found,) = leftovers.packings(surroundings)
    assert (found.state, found.remedy) == ("note", None)
    assert "is being packed" in found.text


def test_old_temporary_files_are_told_with_what_deletes_just_them(surroundings):
    old = write(surroundings.results / "tiny/.metrics.json.abc.part", age_s=3600)
    young = write(surroundings.results / "tiny/.data.json.abc.part")
    packing = write(surroundings.results / "cache/.a.b.part/.x.part", age_s=3600)
    (found,) = leftovers.temporary_files(surroundings)
    assert (found.state, found.text.startswith("1 file of writes that were killed")) == ("note", True)
    assert os.system(found.remedy) == 0
    assert [path.exists() for path in (old, young, packing)] == [False, True, True]


def test_the_look_for_temporary_files_ends(surroundings, monkeypatch):
    monkeypatch.setattr(leftovers, "LOOK_AT_MOST_S", -1.0)
    for number in range(3):
        write(surroundings.results / f"tiny/.{number}.part", age_s=3600)
    (found,) = leftovers.temporary_files(surroundings)
    assert found.text.startswith("1 file of writes")
    assert found.text.endswith("and maybe more")


@pytest.mark.parametrize("text", ['{"oops', "{}", "[]", "null", '"x"'])
def test_a_broken_plan_is_a_warning(surroundings, text):
    write(surroundings.results / "tiny/plan.json", text)
    (found,) = leftovers.plans(surroundings)
    assert (found.state, found.remedy) == ("warning", "snakemake --cores all --configfile FILE")
    assert found.text.startswith("results/tiny/plan.json: not a plan of this version")


def test_the_plan_of_the_given_experiment_is_made_again_from_it(with_plan):
    here = with_plan()
    write(here.results / "tiny/plan.json", "{}")
    (found,) = leftovers.plans(here)
    assert found.remedy == "snakemake --cores all --configfile tiny.yaml"
    write(here.results / "tiny/plan.json", here.plan.to_json())
    assert list(leftovers.plans(here)) == []
