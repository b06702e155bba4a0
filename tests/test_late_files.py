"""Patience: how long, and how often, files that may be late are looked for."""

from types import SimpleNamespace

import pytest

from dctkd import file_systems, late_files
from dctkd.errors import InputError
from dctkd.late_files import latency_of, patiently, refresh, settled


@pytest.fixture
def clock(monkeypatch):
    """A clock that only waiting, and looks that say so, move on."""
    clock = SimpleNamespace(now_s=100.0, waits=[])

    def sleep(seconds):
        clock.waits.append(seconds)
        clock.now_s += seconds

    monkeypatch.setattr(late_files, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: clock.now_s))
    return clock


def test_on_a_local_file_system_the_first_look_counts(tmp_path, clock):
    looks = []
    assert settled(lambda: looks.append(1), bool, tmp_path, 0.0) is None
    assert (len(looks), clock.waits) == (1, [])


def test_what_is_good_at_first_sight_costs_nothing(tmp_path, clock):
    assert settled(lambda: 7, bool, tmp_path, 60.0) == 7
    assert clock.waits == []


def test_what_becomes_good_is_taken_at_once(tmp_path, clock):
    looks = iter([0, 0, 5])
    assert settled(lambda: next(looks), bool, tmp_path, 60.0) == 5
    assert sum(clock.waits) < 5


def test_what_stays_bad_is_believed_after_the_patience_and_not_before(tmp_path, clock):
    looked_s = []

    def look():
        looked_s.append(clock.now_s - 100)
        return 0

    assert settled(look, bool, tmp_path, 60.0) == 0
    assert looked_s[-1] == pytest.approx(60.0)
    assert 5 < len(looked_s) < 20, "neither once nor so often that a server notices"


def test_the_last_look_starts_after_the_patience_even_if_looks_are_slow(tmp_path, clock):
    started_s = []

    def slow_look():
        started_s.append(clock.now_s - 100)
        clock.now_s += 200
        return 0

    settled(slow_look, bool, tmp_path, 60.0)
    assert len(started_s) >= 2
    assert started_s[-1] - 200 >= 60


def test_the_last_error_is_raised_when_the_patience_is_over(tmp_path, clock):
    errors = (InputError(f"look {number}") for number in range(100))

    def refuse():
        raise next(errors)

    with pytest.raises(InputError, match=r"look 1?[1-9]"):
        patiently(refuse, tmp_path, 60.0)
    assert sum(clock.waits) == pytest.approx(60)


def test_other_errors_are_not_waited_for(tmp_path, clock):
    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        patiently(fail, tmp_path, 60.0)
    assert clock.waits == []


def test_who_is_asked_to_stop_does_not_wait(tmp_path, clock):
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        settled(lambda: 0, bool, tmp_path, 60.0, ask=stop)
    assert clock.waits == []


def test_waiting_is_said_once(tmp_path, clock, caplog):
    caplog.set_level("INFO")
    settled(lambda: 0, bool, [tmp_path, tmp_path / "b"], 60.0)
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path} and 1 more: shared, and not all there yet: looking again, for up to 60 s"
    ]


@pytest.mark.parametrize(
    ("kind", "shared", "expected_s"),
    [("ext4", "auto", 0), ("nfs4", "auto", 30), ("ext4", True, 30), ("nfs4", False, 0)],
)
def test_the_experiment_goes_before_the_type_of_the_file_system(tmp_path, monkeypatch, kind, shared, expected_s):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"1 0 0:1 / / rw - {kind} x rw\n")
    monkeypatch.setattr(file_systems, "MOUNTS", mounts)
    assert latency_of(tmp_path, shared, 30.0) == expected_s


def test_refreshing_bears_everything(tmp_path):
    (tmp_path / "run/eval").mkdir(parents=True)
    (tmp_path / "run/file").write_text("")
    (tmp_path / "run/void").symlink_to("nowhere")
    (tmp_path / "run/file").chmod(0)
    refresh(tmp_path / "run")
    refresh(tmp_path / "nothing/here")
