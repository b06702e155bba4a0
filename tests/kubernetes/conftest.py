"""A checkout, a bucket and a cluster on this machine."""

import copy
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kubernetes.cluster import Cluster, path_with

REPOSITORY = Path(__file__).parents[2]
BELOW = "exp/results/tiny/"
TRAVELS = ("Snakefile", "workflow", "profiles", "paper_tables/reported")
NEEDED = {
    "snakemake_executor_plugin_kubernetes": "--requirement containers/kubernetes.lock",
    "snakemake_storage_plugin_s3": "--requirement containers/kubernetes.lock",
    "moto": "'moto[s3,server]', a bucket on this machine",
}


@pytest.fixture(scope="session", autouse=True)
def _installed():
    for module, remedy in NEEDED.items():
        pytest.importorskip(module, reason=f"{module} is not installed: uv pip install {remedy}")


@dataclass
class Workplace:
    """A checkout from which Snakemake sends pods to a cluster, and a bucket."""

    folder: Path
    cluster: Cluster
    bucket: Any
    environment: dict

    def snakemake(self, *arguments, profile="kubernetes"):
        given = ["--workflow-profile", f"profiles/{profile}", "--configfile", "tiny.yaml", *arguments]
        command = [sys.executable, "-m", "snakemake", *given]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    def in_pods(self, *arguments):
        options = ["--default-storage-prefix", f"s3://{self.bucket.name}/exp", "--seconds-between-status-checks", "1"]
        return self.snakemake(*options, *arguments)

    def published(self):
        """Return the JSON files of the experiment that lie in the bucket."""
        found = self.bucket.objects.filter(Prefix=BELOW)
        return {one.key.removeprefix(BELOW): one.get()["Body"].read() for one in found if one.key.endswith(".json")}

    def objects(self):
        return {one.key for one in self.bucket.objects.all()}


@pytest.fixture(scope="session")
def pod_experiment(request):
    """The tiny experiment, in packs of two."""
    conftest = next(plugin for plugin in request.config.pluginmanager.get_plugins() if hasattr(plugin, "TINY"))
    return {**copy.deepcopy(conftest.TINY), "device": "cpu", "students_per_job": 2}


@pytest.fixture(scope="session")
def bucket():
    """An S3 service on this machine: its address, and an empty bucket."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    s3 = boto3.resource("s3", endpoint_url=url, aws_access_key_id="me", aws_secret_access_key="secret")
    yield url, s3
    server.stop()


@pytest.fixture(scope="module")
def make_workplace(tmp_path_factory, bucket, pod_experiment):
    """Make checkouts, each with a cluster and a bucket of its own."""
    clusters = []

    def make(name, **settings_of_cluster):
        folder = tmp_path_factory.mktemp(name)
        checkout = folder / "checkout"
        _check_out(checkout, pod_experiment)
        cluster = Cluster(
            folder / "pods", path_with(folder / "bin", Path(sys.executable).parent), **settings_of_cluster
        )
        clusters.append(cluster)
        cluster.claims |= {claim: folder / claim for claim in ("dctkd-store", "dctkd-cache")}
        for claim in cluster.claims.values():
            claim.mkdir()
        cluster.write_access(folder / "access")
        url, s3 = bucket
        storage = {"ENDPOINT_URL": url, "ACCESS_KEY": "me", "SECRET_KEY": "secret"}
        settings = {f"SNAKEMAKE_STORAGE_S3_{key}": value for key, value in storage.items()}
        environment = {**os.environ, **settings, "KUBECONFIG": str(folder / "access"), "PATH": cluster.path}
        return Workplace(checkout, cluster, s3.create_bucket(Bucket=name), environment)

    yield make
    for cluster in clusters:
        cluster.close()


def _check_out(folder, experiment):
    for name in TRAVELS:
        copy_of = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy_of(REPOSITORY / name, folder / name)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(experiment, sort_keys=False))
    for command in (["init", "--quiet"], ["add", "."]):
        subprocess.run(["git", *command], cwd=folder, check=True)
