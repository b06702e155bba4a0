"""A job at the end of its time asks SLURM to be queued again, and knows when that cannot be."""

import pytest

from dctkd import batch_system

SHOWN = "JobId=7 JobName=x Requeue={requeue} Restarts={restarts} BatchFlag=1"


@pytest.fixture
def scontrol(tmp_path, monkeypatch):
    """Install a scontrol that answers as told and writes down how it was called."""

    def install(*, requeue=1, restarts=0, status=0):
        program = tmp_path / "scontrol"
        answer = SHOWN.format(requeue=requeue, restarts=restarts)
        program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\necho "{answer}"\nexit {status}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        monkeypatch.setenv("SLURM_JOB_ID", "7")
        monkeypatch.setattr(batch_system, "GRACE_S", 0.0)

    def calls():
        return (tmp_path / "calls").read_text().splitlines()

    install.calls = calls
    return install


def test_slurm_is_asked_to_queue_the_job_again(scontrol):
    scontrol()
    batch_system.requeue_this_job()
    assert scontrol.calls() == ["show job --oneliner 7", "requeue 7"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"requeue": 0}, "cannot be queued again"),
        ({"restarts": batch_system.MAX_REQUEUES}, "give it more time"),
        ({"status": 1}, "status 1"),
    ],
)
def test_where_that_is_not_possible_the_job_ends_instead_and_the_log_says_why(scontrol, caplog, answer, why):
    caplog.set_level("INFO")
    scontrol(**answer)
    assert not batch_system.requeue_this_job()
    assert scontrol.calls() == ["show job --oneliner 7"]
    assert why in caplog.text


def test_outside_slurm_nothing_is_asked(scontrol, monkeypatch):
    scontrol()
    monkeypatch.delenv("SLURM_JOB_ID")
    assert not batch_system.requeue_this_job()
    with pytest.raises(FileNotFoundError):
        scontrol.calls()


def test_without_its_commands_the_job_ends(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert not batch_system.requeue_this_job()
    assert "scontrol" in caplog.text
