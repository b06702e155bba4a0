"""The image is built, and runs as a user that it does not know.

Set DCTKD_IMAGE_BASE to the image to build on. DCTKD_IMAGE_BUILDER chooses the builder; DCTKD_IMAGE_OPTIONS go to it,
such as `--layers` (buildah: build on what was built before) or volumes with the certificates of a package index.
"""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
BASE = os.environ.get("DCTKD_IMAGE_BASE")
TAG = "localhost/dctkd:test"


def _answers(builder):
    if shutil.which(builder) is None:
        return False
    return subprocess.run([builder, "info"], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def builder():
    """What DCTKD_IMAGE_BUILDER names, else docker, podman or buildah, whichever answers first."""
    if BASE is None:
        pytest.skip("takes 5 minutes, gigabytes and a base image: DCTKD_IMAGE_BASE=docker.io/library/python:3.11-slim")
    names = os.environ.get("DCTKD_IMAGE_BUILDER", "docker podman buildah").split()
    found = next(filter(_answers, names), None)
    if found is None:
        pytest.skip(f"none of {', '.join(names)} answers")
    return found


@pytest.fixture(scope="module")
def image(builder):
    """The image's name."""
    options = [*shlex.split(os.environ.get("DCTKD_IMAGE_OPTIONS", "")), "--build-arg", f"BASE={BASE}"]
    given = [*options, "--build-arg", f"REVISION={'f' * 40}", "--file", "containers/Dockerfile", "--tag", TAG, "."]
    done = subprocess.run([builder, "build", *given], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return TAG


@pytest.fixture(scope="module")
def run_in_image(builder, image, tmp_path_factory):
    """Run a command in the image, in an empty folder of this machine's, as user 4321."""
    folder = tmp_path_factory.mktemp("work")
    folder.chmod(0o777)
    options = ["--user", "4321:4321", "--volume", f"{folder}:/work"]
    if builder == "buildah":
        named = subprocess.run(["buildah", "from", image], capture_output=True, text=True, check=True).stdout.strip()
        start = ["buildah", "run", *options, named, "--", "/opt/dctkd/containers/entrypoint.sh"]
    else:
        start = [builder, "run", "--rm", *options, image]
    yield lambda *command: subprocess.run([*start, *command], capture_output=True, text=True, check=False)
    if builder == "buildah":
        subprocess.run(["buildah", "rm", named], capture_output=True, check=True)


def test_the_doctor_finds_the_locked_versions_and_the_commit(run_in_image):
    done = run_in_image("dctkd", "doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "those of requirements.lock" in done.stdout
    assert f"commit {'f' * 10}" in done.stdout


def test_the_demo_is_planned_in_an_empty_folder(run_in_image):
    done = run_in_image("snakemake", "--cores", "all", "--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "students_pack0" in done.stdout + done.stderr


def test_a_user_without_a_name_may_write_caches(run_in_image):
    done = run_in_image("sh", "-c", 'touch "$HOME/file" && python -c "import getpass; print(getpass.getuser())"')
    assert (done.returncode, done.stdout) == (0, "dctkd\n"), done.stderr
