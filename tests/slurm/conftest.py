"""Snakemake on a real SLURM, as a user calls it, with a profile that differs in what a site edits."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(Path(__file__).parent))

from slurm_cluster import Cluster, wait_until, why_not  # noqa: E402

SITE = {
    "default-resources": ["slurm_partition=main", "slurm_extra='--signal=USR1@30'", "mem_mb=1000", "runtime=10"],
    "resources": ["gpu=0"],
    "set-threads": ["data=1", "tables=1"],
    "slurm-no-account": True,
    "slurm-init-seconds-before-status-checks": 2,
    "latency-wait": 10,
}
"""What this site edits in profiles/slurm/config.yaml: a partition, no GPUs, small nodes, looks more often."""


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """Start a cluster; the test is skipped where that cannot be done."""
    if reason := why_not():
        pytest.skip(reason)
    started = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        yield started.start()
    finally:
        started.stop()


@dataclass
class Site:
    """A working folder on the shared disk of the cluster."""

    folder: Path

    def set_up(self, raw, results=None):
        """Write the experiment and the profile; take over results that are there."""
        (self.folder / "tiny.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
        profile = yaml.safe_load((REPOSITORY / "profiles/slurm/config.yaml").read_text())
        target = self.folder / "profiles/slurm"
        target.mkdir(parents=True)
        (target / "config.yaml").write_text(yaml.safe_dump({**profile, **SITE}))
        if results is not None:
            shutil.copytree(results, self.folder / "results", symlinks=True)
        return self

    def command(self, *arguments):
        snakemake = [sys.executable, "-m", "snakemake", "--snakefile", REPOSITORY / "Snakefile"]
        return [*map(str, snakemake), "--workflow-profile", "profiles/slurm", *arguments, "--configfile", "tiny.yaml"]

    def set_pause(self, pause_s):
        """Say how long each step of the slow method waits from now on; a reader sees the old text or the new one."""
        new = self.folder / "pause_s.new"
        new.write_text(str(pause_s))
        new.replace(self.folder / "pause_s")

    def start(self, *arguments, pause_s=0.0):
        self.set_pause(pause_s)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        with (self.folder / "snakemake.log").open("ab") as log:
            return subprocess.Popen(
                self.command(*arguments),
                cwd=self.folder,
                env={**os.environ, "PATH": path},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def end(self, snakemake, limit_s=300):
        """Wait for the end of a call and return its status."""
        try:
            return snakemake.wait(timeout=limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(snakemake.pid, signal.SIGINT)
            snakemake.wait(timeout=60)
            raise AssertionError(f"no end within {limit_s} s:\n{self.log()[-3000:]}") from None

    def run(self, *arguments, limit_s=300, pause_s=0.0):
        return self.end(self.start(*arguments, pause_s=pause_s), limit_s)

    def log(self):
        return (self.folder / "snakemake.log").read_text()

    def wait_for_training(self, limit_s=120):
        """Wait until some student has a checkpoint."""
        store = self.folder / "results/store"
        wait_until(lambda: any(store.glob("*/checkpoint*.bin")), "a student is saved", limit_s)

    def job_logs(self):
        return "".join(path.read_text() for path in sorted(self.folder.glob("results/*/logs/**/*pack*.log")))


@pytest.fixture
def site(tmp_path):
    """Make a working folder."""
    return Site(tmp_path)
