"""All checks run, whatever one of them does."""

import dataclasses
import os
import sys
from types import ModuleType

import psutil
import pytest

from dctkd.doctor import examine as examining
from dctkd.doctor.examine import GROUPS, as_records, examine, has_problem
from dctkd.doctor.finding import STATES, Finding


def fine(_):
    yield Finding("fine", "ok", "all is well")


def install(monkeypatch, **groups):
    """Replace the groups by these: title to checks, or to the name of a module."""
    names = {}
    for title, checks in groups.items():
        names[title] = checks if isinstance(checks, str) else f"group_{title}"
        if not isinstance(checks, str):
            module = ModuleType(names[title])
            module.CHECKS = checks
            monkeypatch.setitem(sys.modules, names[title], module)
    monkeypatch.setattr(examining, "GROUPS", names)


@pytest.mark.parametrize(
    "error", [RuntimeError("a\nb"), SystemExit(3), FileNotFoundError(2, "gone", "/proc/cpuinfo"), RecursionError()]
)
def test_what_a_check_raises_is_a_finding_and_the_others_still_run(monkeypatch, surroundings, error):
    def broken_check(_):
        yield Finding("before", "note", "said before it broke")
        raise error

    install(monkeypatch, first=(broken_check, fine), second=(fine,))
    found = examine(surroundings)
    assert [finding.check for finding in found["first"]] == ["before", "broken check", "fine"]
    assert found["first"][1].state == "note"
    assert found["first"][1].text.startswith(f"could not be looked at ({type(error).__name__}: ")
    assert "\n" not in found["first"][1].text
    assert [finding.check for finding in found["second"]] == ["fine"]


def test_a_group_whose_libraries_are_missing_is_a_finding(monkeypatch, surroundings):
    install(monkeypatch, first="no_such_module_anywhere", second=(fine,))
    found = examine(surroundings)
    assert found["first"][0].text.startswith("could not be looked at (ModuleNotFoundError: ")
    assert [finding.check for finding in found["second"]] == ["fine"]


def test_records_name_group_check_state_text_and_remedy():
    records = as_records({"compute": [Finding("GPU", "warning", "hot", "sleep 60")]})
    assert records == [
        {"group": "compute", "check": "GPU", "state": "warning", "text": "hot", "remedy": "sleep 60"},
    ]


@pytest.mark.parametrize("state", STATES)
def test_only_a_problem_counts_as_one(state):
    assert has_problem({"a": [Finding("x", "ok", "")], "b": [Finding("y", state, "")]}) == (state == "problem")


def test_every_finding_here_is_one_line_with_a_known_state(surroundings):
    found = examine(surroundings)
    assert list(found) == list(GROUPS)
    for finding in (finding for findings in found.values() for finding in findings):
        assert finding.state in STATES
        assert "\n" not in finding.text + (finding.remedy or "")


def test_without_proc_and_with_folders_that_cannot_be_read_the_rest_is_told(surroundings, monkeypatch):
    monkeypatch.setattr(psutil, "PROCFS_PATH", "/nowhere")
    here = dataclasses.replace(surroundings, root=surroundings.root / "nowhere")
    (here.folder / "results").mkdir()
    for name in ("store", "cache", "tiny"):
        (here.folder / "results" / name).touch()  # a file in the place of a folder, for root too
    found = [finding for findings in examine(here).values() for finding in findings]
    assert {"Python", "processor", "results disk", "writability"} <= {finding.check for finding in found}
    assert "runs" not in {finding.check for finding in found}


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_results_folder_that_cannot_be_read_is_a_problem_and_its_checks_notes(surroundings):
    (surroundings.results / "store/a").mkdir(parents=True)
    surroundings.results.chmod(0)
    try:
        found = {finding.check: finding for findings in examine(surroundings).values() for finding in findings}
    finally:
        surroundings.results.chmod(0o755)
    assert found["writability"].remedy == f"chmod -R u+rwX {surroundings.results}"
