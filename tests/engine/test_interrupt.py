"""A job is asked to stop by signals and by its parent's death."""

import os
import signal

import pytest

from dctkd.engine.interrupt import SIGNALS, Interrupt, InterruptedRunError, unwinding


@pytest.fixture(autouse=True)
def _terminal():
    """As in a terminal: nohup and continuous integration may let the hang-up be ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_remembered_and_raised_between_two_steps(number):
    with Interrupt().listening() as interrupt:
        interrupt.raise_if_requested()
        os.kill(os.getpid(), number)
        with pytest.raises(InterruptedRunError, match=rf"stopped by signal {number.value}; run the same command again"):
            interrupt.raise_if_requested()


def test_former_handlers_come_back():
    before = [signal.getsignal(number) for number in SIGNALS]
    with Interrupt().listening():
        pass
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_the_end_of_the_parent_is_a_request_too(monkeypatch):
    interrupt = Interrupt()
    monkeypatch.setattr(os, "getppid", lambda: 1 if os.getpid() != 1 else 2)
    with pytest.raises(InterruptedRunError, match="the end of its parent process"):
        interrupt.raise_if_requested()


def test_under_nohup_the_end_of_the_terminal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupt().listening() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupt.requested
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", SIGNALS)
def test_other_jobs_unwind_where_they_stand(number):
    undone = []

    def work():
        try:
            os.kill(os.getpid(), number)
            undone.append("went on")
        except Exception:  # as decoding does with a file that it cannot read
            undone.append("swallowed")
        finally:
            undone.append("undone")

    with pytest.raises(InterruptedRunError, match=rf"signal {number.value}"), unwinding():
        work()
    assert undone == ["undone"]
