"""Snakemake with profiles/generic, over a batch system that is made up: tests/cluster/fake_batch.py, no real PBS."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]


@dataclass
class Cluster:
    """A working folder, and the fake batch system that its jobs go to."""

    folder: Path
    variables: dict = field(default_factory=dict)

    def __post_init__(self):
        self.state.mkdir(parents=True)
        (self.folder / "profiles").symlink_to(REPOSITORY / "profiles")

    @property
    def state(self):
        return self.folder / "fake"

    @property
    def environment(self):
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        ours = {
            "PATH": path,
            "OMP_NUM_THREADS": "1",
            "FAKE_BATCH": str(self.state),
            "FAKE_PYTHON": sys.executable,
            "FAKE_COMMAND": str(HERE / "fake_batch.py"),
            "DCTKD_SITE": str(HERE / "fake_site.sh"),
        }
        return {**os.environ, **ours, **self.variables}

    def write(self, raw, name="tiny.yaml"):
        (self.folder / name).write_text(yaml.safe_dump(raw, sort_keys=False))

    def start(self, *arguments, profile="profiles/generic", snakefile=REPOSITORY / "Snakefile"):
        """Start Snakemake in a process group of its own, as a terminal does."""
        command = ["snakemake", "--snakefile", snakefile, "--workflow-profile", profile]
        given = [*arguments, "--seconds-between-status-checks", "1", "--max-jobs-per-timespan", "100/1s"]
        with self.log_path.open("w") as log:
            return subprocess.Popen(
                [str(part) for part in (sys.executable, "-m", *command, *given)],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def snakemake(self, *arguments, **keywords):
        """Run Snakemake to its end; return its status and what it said."""
        process = self.start(*arguments, **keywords)
        try:
            status = process.wait(timeout=600)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return status, self.log

    @property
    def log_path(self):
        return self.folder / "snakemake.log"

    @property
    def log(self):
        return self.log_path.read_text()

    def script(self, name, *arguments):
        """Run a script of the profile; return what it printed."""
        command = [REPOSITORY / "profiles/generic" / name, *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )

    @property
    def submissions(self):
        """Pairs (open jobs right after it, name) in order."""
        path = self.state / "submitted"
        lines = [line.split(maxsplit=2) for line in path.read_text().splitlines()] if path.exists() else []
        return [(int(num_open), name) for _, num_open, name in lines]

    @property
    def queue(self):
        return sorted(path.name for path in (self.state / "queue").glob("*"))

    def wait_until(self, condition, limit_s=300):
        limit = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < limit, f"it did not happen in time: {self.log if self.log_path.exists() else ''}"
            time.sleep(0.02)

    def stop_jobs(self):
        """Kill what still runs."""
        for entry in (self.state / "queue").glob("*"):
            pid = entry.read_text() if entry.exists() else ""
            entry.unlink(missing_ok=True)
            if pid:
                try:
                    os.killpg(int(pid), signal.SIGKILL)
                except ProcessLookupError:
                    continue


def clusters_in(folder):
    """Give a function that makes working folders with a batch system each, and stop their jobs at the end."""
    made = []

    def make(name="cluster", **variables):
        made.append(Cluster(folder / name, {key: str(value) for key, value in variables.items()}))
        return made[-1]

    yield make
    for cluster in made:
        cluster.stop_jobs()


@pytest.fixture
def make_cluster(tmp_path):
    """Make working folders with a batch system each."""
    yield from clusters_in(tmp_path)


@pytest.fixture(scope="module")
def make_shared_cluster(tmp_path_factory):
    """Make working folders that a module's tests share and leave as they were."""
    yield from clusters_in(tmp_path_factory.mktemp("clusters"))
