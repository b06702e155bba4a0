"""Snakemake as a user calls it, in a folder of its own."""

import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]


def _cpu_seconds_of_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@dataclass
class Outcome:
    """What a command did."""

    status: int
    text: str
    seconds: float
    cpu_seconds: float

    def count_of(self, rule):
        """Return how many jobs of a rule a dry run lists."""
        rows = [line.split() for line in self.text.splitlines()]
        return next((int(row[1]) for row in rows if len(row) == 2 and row[0] == rule and row[1].isdigit()), 0)


@dataclass
class Workplace:
    """A working folder with its results and experiment files."""

    folder: Path

    def write(self, raw, name="tiny.yaml"):
        (self.folder / name).write_text(yaml.safe_dump(raw, sort_keys=False))
        return name

    def snakemake(self, *arguments, config="tiny.yaml", cores="2"):
        profile = REPOSITORY / "profiles" / "default"
        command = [
            "snakemake",
            "--snakefile",
            REPOSITORY / "Snakefile",
            "--workflow-profile",
            profile,
            "--cores",
            cores,
        ]
        given = [*arguments, "--configfile", config] if config else list(arguments)
        return self.run(sys.executable, "-m", *command, *given)

    def dctkd(self, *arguments):
        return self.run("dctkd", *arguments)

    def run(self, *command):
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
        started, cpu_before_s = time.perf_counter(), _cpu_seconds_of_children()
        done = subprocess.run(
            [str(part) for part in command],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        seconds, cpu_seconds = time.perf_counter() - started, _cpu_seconds_of_children() - cpu_before_s
        return Outcome(done.returncode, done.stdout + done.stderr, seconds, cpu_seconds)

    def store(self):
        """Map each finished run's digest to when it was finished."""
        return {
            path.parent.name: path.stat().st_mtime_ns for path in (self.folder / "results/store").glob("*/metrics.json")
        }


@pytest.fixture(scope="module")
def make_workplace(tmp_path_factory):
    """Make working folders."""
    return lambda name: Workplace(tmp_path_factory.mktemp(name))
