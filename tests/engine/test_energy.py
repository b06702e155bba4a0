"""Energy counters: wraps, silence of the hardware, and which GPU; in a made-up powercap tree, not the real one."""

import gc
import sys
import threading
from types import ModuleType, SimpleNamespace

import pytest
import torch

from dctkd.engine import records
from dctkd.engine.energy import EnergyMeter, PackageCounter, keep_reading

CPU = torch.device("cpu")
AMD_RANGE_UJ = 65_532_610_987
"""What AMD servers report: 2^32 units of about 15.3 microjoules."""


class Tree:
    """A powercap tree."""

    def __init__(self, root):
        self.root = root

    def zone(self, folder, name, energy_uj=0, range_uj=AMD_RANGE_UJ):
        (self.root / folder).mkdir(parents=True)
        (self.root / folder / "name").write_text(f"{name}\n")
        (self.root / folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
        self.set(folder, energy_uj)
        return self.root / folder

    def set(self, folder, energy_uj):
        (self.root / folder / "energy_uj").write_text(f"{energy_uj}\n")


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path / "powercap")


def meter(tree, device=CPU):
    return EnergyMeter(device, powercap=tree.root, clock=lambda: 0.0)


def test_joules_are_counted_from_the_start_over_all_packages(tree):
    tree.zone("intel-rapl:0", "package-0", 5_000_000)
    tree.zone("intel-rapl:1", "package-1", 100)
    measured = meter(tree)
    assert measured.read() == {"cpu": 0.0, "cuda": None}
    tree.set("intel-rapl:0", 7_500_000)
    tree.set("intel-rapl:1", 1_000_100)
    assert measured.read()["cpu"] == pytest.approx(2.5 + 1.0)


def test_parts_of_a_package_the_platform_and_second_views_do_not_count(tree):
    zones = {"intel-rapl:0": "package-0", "intel-rapl:0:0": "core", "intel-rapl:0:1": "dram", "intel-rapl:1": "psys"}
    zones |= {"intel-rapl-mmio:0": "package-0", "dtpm": "package"}
    for folder, name in zones.items():
        tree.zone(folder, name)
    measured = meter(tree)
    for folder in zones:
        tree.set(folder, 3_000_000)
    assert measured.read()["cpu"] == pytest.approx(3.0)


def test_wraps_between_reads_are_summed(tree):
    tree.zone("intel-rapl:0", "package-0", energy_uj=AMD_RANGE_UJ - 1_000_000)
    measured = meter(tree)
    readings = []
    for energy_uj in (2_000_000, AMD_RANGE_UJ - 2_000_000, 500_000):
        tree.set("intel-rapl:0", energy_uj)
        readings.append(measured.read()["cpu"])
    # 1 J up to the first wrap and 2 J after it; then all but 4 J of the range; then 2 J to the second wrap and 0.5 J.
    range_j = AMD_RANGE_UJ / 1e6
    assert readings == pytest.approx([3.0, 3.0 + range_j - 4.0, 3.0 + range_j - 4.0 + 2.5])


@pytest.mark.parametrize(("pause_s", "is_known"), [(60.0, True), (70.0, False)])
def test_energy_is_unknown_once_a_pause_was_long_enough_to_hide_a_wrap(tree, pause_s, is_known):
    now = [0.0]
    counter = PackageCounter(tree.zone("intel-rapl:0", "package-0"), clock=lambda: now[0])
    tree.set("intel-rapl:0", 1_000_000)
    now[0] = pause_s  # 65.5 kJ at 1 kW last 65.5 s
    assert counter.read() == (1.0 if is_known else None)
    assert counter.read() == (1.0 if is_known else None)


def test_the_watching_thread_reads_until_it_is_told_to_stop(tree):
    counter = PackageCounter(tree.zone("intel-rapl:0", "package-0"), clock=lambda: 0.0)
    steps = iter([AMD_RANGE_UJ - 1, 999_999, AMD_RANGE_UJ - 1, 999_999])

    def wait():
        energy_uj = next(steps, None)
        if energy_uj is not None:
            tree.set("intel-rapl:0", energy_uj)
        return energy_uj is None

    keep_reading([counter], wait)
    assert counter.read() == pytest.approx((2 * AMD_RANGE_UJ + 999_999) / 1e6, rel=1e-9)  # two rounds and the rest


def watchers():
    return [thread for thread in threading.enumerate() if thread.name == "energy"]


def test_the_watching_thread_ends_with_its_meter_and_there_is_none_without_counters(tree):
    tree.root.mkdir()
    silent = meter(tree)
    assert watchers() == []
    tree.zone("intel-rapl:0", "package-0")
    measured = meter(tree)
    (watcher,) = watchers()
    assert watcher.daemon
    del measured
    gc.collect()
    watcher.join(timeout=10)
    assert not watcher.is_alive()
    assert silent.read()["cpu"] is None


def test_energy_is_none_without_a_powercap_tree(tree):
    assert meter(tree).read() == {"cpu": None, "cuda": None}


@pytest.mark.parametrize("file", ["energy_uj", "max_energy_range_uj", "name"])
def test_energy_is_none_where_one_of_two_packages_cannot_be_read(tree, file):
    tree.zone("intel-rapl:0", "package-0")
    zone = tree.zone("intel-rapl:1", "package-1")
    (zone / file).unlink()
    (zone / file).mkdir()  # reading a folder fails for root too, whom permissions do not stop
    assert meter(tree).read()["cpu"] is None


def test_energy_is_none_from_the_first_read_that_fails(tree):
    zone = tree.zone("intel-rapl:0", "package-0")
    tree.zone("intel-rapl:1", "package-1")
    measured = meter(tree)
    (zone / "energy_uj").unlink()
    assert measured.read()["cpu"] is None
    tree.set("intel-rapl:0", 1)
    assert measured.read()["cpu"] is None


def test_energy_is_none_where_the_range_makes_no_sense(tree):
    tree.zone("intel-rapl:0", "package-0", range_uj=0)
    assert meter(tree).read()["cpu"] is None


class FakeNvml(ModuleType):
    """NVML of a machine with two GPUs."""

    class NVMLError(Exception):
        """What every call may raise."""

    def __init__(self):
        super().__init__("pynvml")
        self.millijoules = {"GPU-aaaa": 10_000, "GPU-bbbb": 900_000}

    def nvmlInit(self):  # noqa: N802
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802
        if uuid not in self.millijoules:
            raise self.NVMLError("not found")
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):  # noqa: N802
        if self.millijoules[handle] is None:
            raise self.NVMLError("not supported")
        return self.millijoules[handle]


@pytest.fixture
def nvml(monkeypatch):
    """NVML, and CUDA that shows the machine's second GPU alone, as device 0."""
    module = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="bbbb"))
    return module


CUDA = torch.device("cuda", 0)


def test_a_gpus_joules_are_those_of_the_visible_gpu(tree, nvml):
    measured = meter(tree, CUDA)
    nvml.millijoules |= {"GPU-aaaa": 99_000, "GPU-bbbb": 902_500}
    assert measured.read() == {"cpu": None, "cuda": pytest.approx(2.5)}


def test_a_job_on_the_cpu_asks_no_gpu(tree, nvml):
    assert meter(tree, CPU).read() == {"cpu": None, "cuda": None}


def test_a_gpus_energy_is_none_where_it_has_no_counter_or_stops_telling(tree, nvml):
    told = meter(tree, CUDA)
    nvml.millijoules["GPU-bbbb"] = None
    assert told.read()["cuda"] is None
    assert meter(tree, CUDA).read()["cuda"] is None
    del nvml.millijoules["GPU-bbbb"]
    assert meter(tree, CUDA).read()["cuda"] is None


def test_a_gpus_energy_is_none_without_nvmls_bindings(tree, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert meter(tree, CUDA).read()["cuda"] is None


@pytest.fixture
def timing(tree, monkeypatch):
    """What timing.json says of energy after 4 J of the packages, and 2.5 J of the GPU if there is one."""
    monkeypatch.setattr(records, "POWERCAP", tree.root)
    recipe = SimpleNamespace(threads=1, processes=None)
    seconds = dict.fromkeys(("own_steps_s", "teacher_passes_s", "images_seen"), 1.0)
    learner = SimpleNamespace(identity=SimpleNamespace(recipe=recipe), **seconds)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 0)

    def record(device, nvml=None):
        speed = records.Speed(job=None, num_learners=1, device=device)
        if (tree.root / "intel-rapl:0").is_dir():
            tree.set("intel-rapl:0", 4_000_000)
        if nvml:
            nvml.millijoules["GPU-bbbb"] += 2_500
        content = speed.record(learner)
        return content["job_energy_joules"], content["job_cpu_energy_joules"]

    return record


def test_the_energy_of_a_job_on_the_cpu_is_the_packages(tree, timing):
    tree.zone("intel-rapl:0", "package-0")
    assert timing(CPU) == (4.0, 4.0)


def test_the_energy_of_a_job_on_a_gpu_is_the_gpus_and_the_packages_stand_beside_it(tree, timing, nvml):
    tree.zone("intel-rapl:0", "package-0")
    assert timing(CUDA, nvml) == (2.5, 4.0)


def test_timing_says_null_where_the_hardware_does_not_tell(timing):
    assert timing(CPU) == (None, None)
