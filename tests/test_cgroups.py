"""Limits of control groups, from files as the kernel writes them."""

import pytest

from dctkd.cgroups import cpu_limit, free_memory_bytes


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V2 = {"proc/self/cgroup": "0::/a/b\n"}
V1 = {"proc/self/cgroup": "5:memory:/job\n3:cpu,cpuacct:/job\n1:name=systemd:/x\n"}


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({**V2, "sys/fs/cgroup/a/b/cpu.max": "150000 100000\n"}, 1.5),
        ({**V2, "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, None),
        ({**V2, "sys/fs/cgroup/a/b/cpu.max": "400000 100000", "sys/fs/cgroup/a/cpu.max": "200000 100000"}, 2.0),
        ({**V2, "sys/fs/cgroup/cpu.max": "100000 100000"}, 1.0),
        (
            {
                **V1,
                "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
            },
            3.0,
        ),
        (
            {
                **V1,
                "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
        (V2, None),
        ({}, None),
    ],
)
def test_the_least_limit_on_cores_counts(tmp_path, files, limit):
    assert cpu_limit(write(tmp_path, files)) == limit


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({**V2, "sys/fs/cgroup/a/b/memory.max": "1000\n", "sys/fs/cgroup/a/b/memory.current": "400\n"}, 600),
        (
            {
                **V2,
                "sys/fs/cgroup/a/b/memory.max": "1000\n",
                "sys/fs/cgroup/a/b/memory.current": "400\n",
                "sys/fs/cgroup/a/b/memory.stat": "anon 250\ninactive_file 150\n",
            },
            750,
        ),
        ({**V2, "sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/b/memory.current": "400\n"}, None),
        (
            {
                **V1,
                "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/job/memory.usage_in_bytes": "400\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "2000\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "500\n",
            },
            1500,
        ),
        ({}, None),
    ],
)
def test_the_least_that_memory_groups_grant_counts(tmp_path, files, free):
    assert free_memory_bytes(write(tmp_path, files)) == free
