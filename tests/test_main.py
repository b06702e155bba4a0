"""A process of the command line ends at once, with its status and output, and all that was to happen at its end."""

import subprocess
import sys

import pytest


def ended(code, *arguments):
    """Run the command line after some code, in a process of its own."""
    code = f"import atexit, sys\n{code}\nfrom dctkd.__main__ import run\nrun()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)


LATER = """
class Loud:
    def __del__(self):
        print("taken apart")

import dctkd
dctkd.loud = [Loud()]
dctkd.loud.append(dctkd.loud)
"""


@pytest.mark.parametrize(("arguments", "status"), [(["methods", "list"], 0), (["train"], 2)])
def test_the_status_is_that_of_the_command_and_memory_is_not_taken_apart(arguments, status):
    done = ended(LATER, *arguments)
    assert done.returncode == status
    assert "taken apart" not in done.stdout


def test_what_is_registered_for_the_end_happens_and_is_seen():
    code = "import dctkd.cli as cli\ncli.app = lambda **_: atexit.register(print, 'at the end', end='')"
    done = ended(code)
    assert (done.returncode, done.stdout) == (0, "at the end")


def test_an_error_that_nobody_expects_keeps_its_traceback():
    done = ended("import dctkd.cli as cli\ndef app(**_): raise LookupError('unexpected')\ncli.app = app")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("LookupError: unexpected\n")
