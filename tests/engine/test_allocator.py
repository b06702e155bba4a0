"""Memory that a step frees stays in the process; tried in processes of their own, because it lasts for their life."""

import platform
import subprocess
import sys

import pytest

STEPS = """
import resource, sys, torch
from dctkd.engine.allocator import give_memory_back, keep_freed_memory

torch.set_num_threads(1)
if sys.argv[1] == "keep":
    assert keep_freed_memory()

def step():  # four tensors of 40 MB, freed at its end
    tensors = [torch.ones(10_000_000) for _ in range(4)]

def resident_mb():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() // 10**6

for _ in range(4):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
held = resident_mb()
give_memory_back()
print(faults, held - resident_mb())
"""

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have rules of their own")


def measured(how):
    done = subprocess.run([sys.executable, "-c", STEPS, how], capture_output=True, text=True, check=True)
    faults, given_back_mb = map(int, done.stdout.split())
    return faults, given_back_mb


@glibc
def test_a_step_asks_the_system_for_no_page_twice():
    assert measured("keep")[0] < 1_000 < measured("leave")[0]


@glibc
def test_what_is_kept_can_be_given_back():
    assert measured("keep")[1] > 120
