"""Locks: one holder, also of several machines; a dead holder's lock is taken over, a living one's never."""

import errno
import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from dctkd import locks
from dctkd.errors import InputError

HOLDER = """
import sys, time
from pathlib import Path
from dctkd.locks import try_lock
held = try_lock(Path(sys.argv[1]))
print("held" if held else "refused", flush=True)
time.sleep(60)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "lock"


@pytest.fixture
def quick(monkeypatch):
    """Silence counts after a moment."""
    monkeypatch.setattr(locks, "STALE_S", 0.3)
    monkeypatch.setattr(locks, "SETTLE_S", 0.05)
    monkeypatch.setattr(locks, "POLL_S", 0.02)


def holder(path):
    """Start a process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def end(process):
    process.kill()
    process.wait()
    process.stdout.close()


def of_another_machine(path):
    """Write the record of a holder on another machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"host": "node7", "boot": "another kernel", "pid": 12, "since": "yesterday", "token": "t"}
    path.write_text(json.dumps(record))


def lock_when_free(path):
    """Poll as a waiting job does; return the lock and the seconds that it took."""
    started_s = time.monotonic()
    while (held := locks.try_lock(path)) is None:
        assert time.monotonic() - started_s < 10
        time.sleep(0.02)
    return held, time.monotonic() - started_s


def test_a_second_process_is_refused_and_told_who_holds_it(path):
    process = holder(path)
    try:
        assert locks.try_lock(path) is None
        assert locks.is_held(path)
        assert str(locks.read_owner(path)).startswith(f"process {process.pid} on ")
    finally:
        end(process)


def test_a_killed_holder_s_lock_is_taken_over_at_once_and_said(path, caplog):
    process = holder(path)
    process.send_signal(signal.SIGKILL)
    end(process)
    assert not locks.is_held(path)
    with locks.try_lock(path) as held:
        assert held.owner.pid == os.getpid()
    assert f"taken over from process {process.pid}" in caplog.text


def test_a_lock_that_is_given_back_leaves_no_file_and_is_free(path):
    with locks.try_lock(path):
        assert path.exists()
        assert locks.try_lock(path) is None
    assert not path.exists()
    assert locks.try_lock(path) is not None


def test_releasing_twice_does_not_release_another_s(path):
    first = locks.try_lock(path)
    first.release()
    second = locks.try_lock(path)
    first.release()
    assert locks.try_lock(path) is None
    second.release()


def test_a_holder_on_another_machine_that_beats_keeps_its_lock(path, quick):
    of_another_machine(path)
    stop = threading.Event()

    def beat():
        while not stop.wait(0.05):
            os.utime(path)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        until_s = time.monotonic() + 3 * locks.STALE_S
        while time.monotonic() < until_s:
            assert locks.try_lock(path) is None
            time.sleep(0.02)
    finally:
        stop.set()
        thread.join()


def test_a_holder_on_another_machine_that_is_silent_is_taken_over(path, quick):
    of_another_machine(path)
    held, seconds = lock_when_free(path)
    assert seconds >= locks.STALE_S
    held.release()


def test_a_holder_on_another_mount_of_one_file_system_is_believed_dead_by_its_silence_alone(path, quick):
    """As two containers of a machine with a mount of FUSE each: no kernel lock of one is seen on the other's."""
    held = locks.try_lock(path)
    record = {**json.loads(path.read_text()), "mount": held.owner.mount + 1}
    held.release()
    path.write_text(json.dumps(record))
    assert locks.try_lock(path) is None
    assert locks.is_held(path)
    held, seconds = lock_when_free(path)
    assert seconds >= 0.9 * locks.STALE_S
    held.release()


@pytest.mark.parametrize("jump_s", [-1e6, 1e6])
def test_clocks_that_jump_neither_free_nor_keep_a_lock(path, quick, monkeypatch, jump_s):
    of_another_machine(path)
    now = time.time() + jump_s
    os.utime(path, (now, now))  # the other machine's clock
    monkeypatch.setattr(time, "time", lambda: now - 2 * jump_s)  # ours
    assert locks.try_lock(path) is None
    held, seconds = lock_when_free(path)
    assert locks.STALE_S <= seconds < 5
    held.release()


def test_where_the_kernel_has_no_locks_the_heartbeat_decides(path, quick, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", unsupported)
    mine = locks.try_lock(path)
    assert mine is not None
    for _ in range(20):
        os.utime(path)  # a beat
        assert locks.try_lock(path) is None
        time.sleep(0.03)
    held, _ = lock_when_free(path)  # no beat any more
    mine.beat()
    assert mine.is_lost
    assert not held.is_lost


def test_of_two_that_write_at_the_same_time_one_gets_it(path, quick, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(locks.fcntl, "flock", unsupported)
    monkeypatch.setattr(locks, "SETTLE_S", 0.3)
    answers = []
    start = threading.Barrier(4)

    def claim():
        start.wait()
        answers.append(locks.try_lock(path))

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([held for held in answers if held]) == 1


def test_a_holder_that_was_silent_and_overtaken_notices_and_does_not_take_the_lock_away(path, caplog):
    mine = locks.try_lock(path)
    of_another_machine(path)
    mine.beat()
    assert mine.is_lost
    assert "lost its lock to process 12 on node7" in caplog.text
    mine.release()
    assert locks.read_owner(path).host == "node7"


def test_a_holder_whose_successor_has_finished_notices(path):
    mine = locks.try_lock(path)
    path.unlink()
    mine.beat()
    assert not mine.is_lost, "one blank look may be a record that is being written"
    mine.beat()
    assert mine.is_lost


def test_the_heart_beats_in_the_background(path, monkeypatch):
    monkeypatch.setattr(locks, "BEAT_S", 0.02)
    heart = locks._Heart()
    monkeypatch.setattr(locks, "_HEART", heart)
    with locks.try_lock(path):
        os.utime(path, (1, 1))
        until_s = time.monotonic() + 5
        while path.stat().st_mtime == 1 and time.monotonic() < until_s:
            time.sleep(0.01)
        assert path.stat().st_mtime != 1


def test_who_only_asks_takes_a_silent_foreign_lock_for_free(path):
    of_another_machine(path)
    assert locks.is_held(path)
    long_ago = time.time() - 2 * locks.FORGOTTEN_S
    os.utime(path, (long_ago, long_ago))
    assert not locks.is_held(path)


def test_asking_does_not_take_the_lock(path):
    with locks.try_lock(path):
        pass
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    assert not locks.is_held(path)
    assert locks.try_lock(path) is not None


def test_two_that_ask_do_not_take_each_other_for_holders(path):
    path.parent.mkdir()
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # as one that asks does
        assert not locks.is_held(path)


def test_a_lock_that_is_given_back_while_another_opens_it_is_not_held_twice(path, monkeypatch):
    lock_in_kernel = locks._lock_in_kernel

    def after_the_holder_left(file, *args):
        path.unlink()
        monkeypatch.setattr(locks, "_lock_in_kernel", lock_in_kernel)
        return lock_in_kernel(file, *args)

    monkeypatch.setattr(locks, "_lock_in_kernel", after_the_holder_left)
    assert locks.try_lock(path) is None, "what it has locked is no longer at the path"
    with locks.try_lock(path):
        assert locks.try_lock(path) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"host": 1}', b"\xff\xfe", b"x" * 5000])
def test_a_damaged_record_counts_as_none(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    assert locks.read_owner(path) is None
    assert locks.try_lock(path) is not None


def test_a_link_in_the_lock_s_place_is_refused_and_its_target_untouched(path, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("data")
    path.parent.mkdir()
    path.symlink_to(precious)
    with pytest.raises(OSError, match="symbolic links"):
        locks.try_lock(path)
    assert not locks.is_held(path)
    assert precious.read_text() == "data"


def test_waiting_says_for_whom_and_ends_when_the_holder_does(path, quick, caplog):
    process = holder(path)
    threading.Timer(0.3, lambda: process.send_signal(signal.SIGKILL)).start()
    try:
        with caplog.at_level(logging.INFO), locks.waiting(path, "pixels"):
            pass
    finally:
        end(process)
    assert f"pixels: waiting for process {process.pid}" in caplog.text


def test_a_lock_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="pixels: cannot be written"), locks.waiting(tmp_path / "file/lock", "pixels"):
        pass
