"""The installation: what differs, and the command that mends it."""

import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest

from dctkd.doctor import environment

SCRIPTS = sysconfig.get_path("scripts")


def write_project(surroundings, *, python=">=3.11", dependencies=("rich>=1",)):
    quoted = ", ".join(f'"{text}"' for text in dependencies)
    text = f'[project]\nrequires-python = "{python}"\ndependencies = [{quoted}]\n'
    (surroundings.checkout / "pyproject.toml").write_text(text)


def write_lock(surroundings, *lines):
    text = "# made by a tool\n" + "".join(f"{line} \\\n    --hash=sha256:00\n    # via x\n" for line in lines)
    (surroundings.checkout / "requirements.lock").write_text(text)
    return surroundings.checkout / "requirements.lock"


def only(findings):
    found = list(findings)
    assert len(found) == 1
    return found[0]


def test_a_python_that_is_too_old_is_a_problem(surroundings):
    write_project(surroundings, python=">=9.9")
    found = only(environment.python(surroundings))
    assert found.state == "problem"
    assert "requires >=9.9" in found.text
    assert found.remedy == f"rm -rf .venv && make -C {surroundings.checkout} env PYTHON=python9.9"


def test_this_python_is_fine(surroundings):
    write_project(surroundings)
    assert only(environment.python(surroundings)).state == "ok"


def test_a_missing_package_is_a_problem(surroundings):
    write_project(surroundings, dependencies=("no-such-package-here>=1", "rich>=1"))
    lock = write_lock(surroundings, "rich==1.0")
    found = only(environment.packages(surroundings))
    assert (found.state, found.text) == ("problem", "missing or too old: no-such-package-here")
    assert found.remedy == f"uv pip install --python {sys.executable} --requirement {lock}"


def test_a_package_that_is_too_old_is_a_problem(surroundings):
    write_project(surroundings, dependencies=("rich>=999",))
    found = only(environment.packages(surroundings))
    assert (found.state, found.text) == (
        "problem",
        f"missing or too old: rich {metadata.version('rich')} (needed: >=999)",
    )


def test_what_a_package_needs_in_turn_is_looked_at_too(surroundings, monkeypatch):
    write_project(surroundings)
    inner = metadata.requires
    monkeypatch.setattr(metadata, "requires", lambda name: ["no-such-inner-package"] if name == "rich" else inner(name))
    assert only(environment.packages(surroundings)).text == "missing or too old: no-such-inner-package"


def test_requirements_of_other_platforms_and_of_extras_are_not_missed(surroundings, monkeypatch):
    write_project(surroundings)
    others = ["absent-one ; sys_platform == 'win32'", "absent-two ; extra == 'dev'"]
    monkeypatch.setattr(metadata, "requires", lambda name: others)
    assert only(environment.packages(surroundings)).state == "ok"


def test_the_environment_of_the_checkout_is_made_again_by_make(surroundings, monkeypatch):
    write_project(surroundings, dependencies=("no-such-package-here",))
    write_lock(surroundings)
    monkeypatch.setattr(sys, "prefix", str(surroundings.checkout / ".venv"))
    checkout = surroundings.checkout
    assert only(environment.packages(surroundings)).remedy == f"rm -f {checkout}/.venv/.ready && make -C {checkout} env"


def test_without_a_checkout_requirements_come_from_what_is_installed(surroundings):
    assert only(environment.packages(surroundings)).state in ("ok", "problem")
    assert only(environment.python(surroundings)).state == "ok"


def test_another_version_of_what_numbers_depend_on_is_a_warning(surroundings):
    lock = write_lock(surroundings, "numpy==0.0.1", "rich==0.0.1")
    found = only(environment.locked_versions(surroundings))
    assert found.state == "warning"
    assert f"numpy {metadata.version('numpy')} (lock: 0.0.1)" in found.text
    assert found.remedy == f"uv pip install --python {sys.executable} --requirement {lock}"


def test_another_version_of_anything_else_is_a_note(surroundings):
    write_lock(surroundings, "rich==0.0.1", f"numpy=={metadata.version('numpy')}")
    found = only(environment.locked_versions(surroundings))
    assert (found.state, found.remedy) == ("note", None)
    assert "rich" in found.text


def test_a_build_for_another_device_is_the_same_version(surroundings, monkeypatch):
    write_lock(surroundings, "torch==2.9.0")
    monkeypatch.setattr(metadata, "version", lambda name: "2.9.0+cpu")
    assert only(environment.locked_versions(surroundings)).state == "ok"


def test_lines_of_the_lock_for_other_platforms_or_that_are_no_pins_do_not_count(surroundings):
    write_lock(surroundings, "numpy==0.0.1 ; sys_platform == 'win32'", "--index-url https://example.org", "absent==1")
    assert only(environment.locked_versions(surroundings)).state == "ok"


def test_without_a_lock_it_says_so(surroundings):
    found = only(environment.locked_versions(surroundings))
    assert found.state == "note"
    assert "no requirements.lock" in found.text


@pytest.fixture
def bin_folder(tmp_path, monkeypatch):
    """A folder that alone is on PATH, with the commands of another environment."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("dctkd", "snakemake"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def remedy_of_path():
    activate = Path(SCRIPTS, "activate")
    return f"source {activate}" if activate.is_file() else f"export PATH={SCRIPTS}:$PATH"


def test_commands_of_another_environment_are_a_warning(surroundings, bin_folder):
    found = list(environment.commands(surroundings))
    assert [finding.state for finding in found] == ["warning", "warning"]
    assert f"dctkd on PATH is {bin_folder}/dctkd" in found[0].text
    assert {finding.remedy for finding in found} == {remedy_of_path()}


def test_a_missing_command_is_a_problem(surroundings, bin_folder):
    (bin_folder / "snakemake").unlink()
    (bin_folder / "dctkd").unlink()
    found = list(environment.commands(surroundings))
    assert [(finding.state, finding.text) for finding in found] == [
        ("problem", "dctkd is not on PATH"),
        ("problem", "snakemake is not on PATH"),
    ]
    assert {finding.remedy for finding in found} == {remedy_of_path()}


def test_commands_of_this_environment_are_fine(surroundings, bin_folder, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(bin_folder))
    assert only(environment.commands(surroundings)).state == "ok"


def test_links_to_the_commands_of_this_environment_are_fine(surroundings, bin_folder, tmp_path, monkeypatch):
    (tmp_path / "links").mkdir()
    for name in ("dctkd", "snakemake"):
        (tmp_path / "links" / name).symlink_to(bin_folder / name)
    monkeypatch.setenv("PATH", str(tmp_path / "links"))
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(bin_folder))
    assert only(environment.commands(surroundings)).state == "ok"


@pytest.mark.parametrize(("is_compiled", "state"), [(True, "note"), (False, "warning")])
def test_switched_off_bytecode_is_a_warning_where_packages_are_not_compiled(
    surroundings, monkeypatch, is_compiled, state
):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(environment, "_is_compiled", lambda _: is_compiled)
    found = only(environment.bytecode(surroundings))
    assert found.state == state
    assert found.remedy == (None if is_compiled else "unset PYTHONDONTWRITEBYTECODE")


def test_ignored_thread_variables_are_a_note_and_pinning_ones_a_warning(surroundings, monkeypatch):
    for name in (*environment.IGNORED_VARIABLES, *environment.PINNING_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    assert list(environment.thread_variables(surroundings)) == []
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setenv("OMP_PROC_BIND", "true")
    ignored, pinning = environment.thread_variables(surroundings)
    assert (ignored.state, ignored.remedy) == ("note", None)
    assert "OMP_NUM_THREADS=8" in ignored.text
    assert (pinning.state, pinning.remedy) == ("warning", "unset OMP_PROC_BIND")


@pytest.mark.parametrize(
    ("state_of_git", "has_checkout", "state", "words"),
    [
        (("c" * 40, False), True, "ok", "commit cccccccccc"),
        (("c" * 40, True), True, "note", "not committed"),
        ((None, None), False, "note", "no git checkout"),
        ((None, None), True, "warning", "git refuses"),
    ],
)
def test_what_git_says_is_told(surroundings, monkeypatch, state_of_git, has_checkout, state, words):
    monkeypatch.setattr(environment, "git_state", lambda: state_of_git)
    monkeypatch.setattr(environment.shutil, "which", lambda name: f"/usr/bin/{name}")
    if has_checkout:
        (surroundings.checkout / ".git").mkdir()
    found = only(environment.git(surroundings))
    assert found.state == state
    assert words in found.text
    wanted = f"git config --global --add safe.directory {surroundings.checkout}" if state == "warning" else None
    assert found.remedy == wanted


def test_a_checkout_without_a_git_command_is_a_note(surroundings, monkeypatch):
    monkeypatch.setattr(environment, "git_state", lambda: (None, None))
    monkeypatch.setattr(environment.shutil, "which", lambda _: None)
    (surroundings.checkout / ".git").mkdir()
    found = only(environment.git(surroundings))
    assert (found.state, found.text) == ("note", "there is no git command: runs record no commit")


def test_a_folder_without_a_snakefile_is_noted(surroundings):
    (surroundings.checkout / "Snakefile").touch()
    found = only(environment.working_folder(surroundings))
    assert (found.state, found.remedy) == ("note", f"cd {surroundings.checkout}")
    (surroundings.folder / "Snakefile").touch()
    assert list(environment.working_folder(surroundings)) == []
