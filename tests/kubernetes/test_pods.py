"""What Snakemake asks a cluster for with profiles/kubernetes."""

import pytest

EDGE = "exp/results/tiny/shapes/data.json"
TEACHER = "results/tiny/shapes/teachers/wide/seed0/teacher.json"


@pytest.fixture(scope="module")
def teacher_pod(make_workplace):
    """Pod of the job that trains a teacher on a GPU, on a cluster where pods fail."""
    workplace = make_workplace("pods", is_full=True)
    workplace.bucket.put_object(Key=EDGE, Body=b"{}")
    status, _ = workplace.in_pods("--config", "device=cuda", "--", TEACHER)
    assert status == 1
    (job,) = workplace.cluster.jobs.values()
    return job["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def container(teacher_pod):
    """Its container."""
    (container,) = teacher_pod["containers"]
    return container


def test_a_dry_run_plans_a_pod_per_job_and_sends_none(make_workplace):
    workplace = make_workplace("dry")
    status, text = workplace.in_pods("--dry-run", "--quiet", "rules")
    assert status == 0, text
    assert {"data", "teacher", "students_pack0", "students_pack1", "overlap"} <= set(text.split())
    assert not workplace.cluster.jobs


def test_a_pod_that_asks_for_a_gpu_has_it_as_a_limit_too(container):
    resources = container["resources"]
    # The API refuses a request for an extended resource that is not equal to its limit.
    assert resources["requests"]["nvidia.com/gpu"] == resources["limits"]["nvidia.com/gpu"] == "1"


def test_a_pod_may_run_on_nodes_that_are_kept_for_gpus(teacher_pod):
    assert teacher_pod["tolerations"] == [
        {"effect": "NoSchedule", "key": "nvidia.com/gpu", "operator": "Equal", "value": "present"}
    ]


def test_a_pod_asks_for_the_memory_that_its_networks_need_and_scratch_space_of_the_profile(container):
    limits = container["resources"]["limits"]
    assert 8000 < int(limits["memory"].removesuffix("M")) < 8100, "a process with a GPU, and tiny networks"
    assert limits["ephemeral-storage"] == "4000M"


def test_a_pod_mounts_store_and_cache_where_jobs_look_for_them(container):
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts == {
        "workdir": "/workdir",
        "dctkd-store": "/workdir/results/store",
        "dctkd-cache": "/workdir/results/cache",
    }


def test_a_pod_names_the_image_and_gets_keys_as_a_secret_only(container):
    assert container["image"] == "registry.example.org/dctkd-kubernetes:latest"
    assert {one["name"] for one in container["env"]} >= {
        "SNAKEMAKE_STORAGE_S3_ACCESS_KEY",
        "SNAKEMAKE_STORAGE_S3_SECRET_KEY",
    }
    assert "secret" not in " ".join(container["args"])
