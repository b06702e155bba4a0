"""The energy that the hardware says it took, where it says so.

Processors count the energy of each package (Intel and AMD: RAPL, shown in Linux's powercap tree), NVIDIA GPUs that of
the whole board. A counter knows nothing of processes: it counts whatever else runs on that package or board too, idle
power included. Where the hardware is silent (a virtual machine, no NVML, no permission: most kernels let only root
read RAPL) the energy is None, never a guess.

Source:
    https://docs.kernel.org/power/powercap/powercap.html (energy_uj, max_energy_range_uj); NVML API reference,
    nvmlDeviceGetTotalEnergyConsumption (millijoules since the driver was loaded).
"""

from __future__ import annotations

import importlib
import logging
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

logger = logging.getLogger(__name__)

POWERCAP = Path("/sys/class/powercap")
MOST_WATTS_PER_PACKAGE = 1000.0
"""No processor package draws more; how soon a counter can wrap follows from it."""


class PackageCounter:
    """One processor package's energy, summed over the wraps of its counter.

    Args:
        zone: Folder of the package's powercap zone.
        clock: Seconds, from any start.

    Raises:
        OSError, ValueError: If the counter cannot be read.
    """

    def __init__(self, zone: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._file, self._clock, self._lock = zone / "energy_uj", clock, threading.Lock()
        self._range_uj = int((zone / "max_energy_range_uj").read_text())
        if self._range_uj <= 0:
            raise ValueError(f"{zone}: max_energy_range_uj is {self._range_uj}, expected more than 0")
        self._last_uj, self._last_s = int(self._file.read_text()), clock()
        self._total_uj = 0
        self._is_known = True

    @property
    def longest_gap_s(self) -> float:
        """Seconds between two reads below which the counter cannot have wrapped twice: 66 s for 65.7 kJ."""
        return self._range_uj / 1e6 / MOST_WATTS_PER_PACKAGE

    def read(self) -> float | None:
        """Return the joules since the start; None from the first read that failed or came too late to see a wrap."""
        with self._lock:  # also read by the thread that watches for wraps
            try:
                now_uj, now_s = int(self._file.read_text()), self._clock()
            except (OSError, ValueError):
                self._is_known = False
                return None
            self._is_known &= now_s - self._last_s <= self.longest_gap_s
            step_uj = now_uj - self._last_uj
            self._total_uj += step_uj if step_uj >= 0 else step_uj + self._range_uj
            self._last_uj, self._last_s = now_uj, now_s
            return self._total_uj / 1e6 if self._is_known else None


class EnergyMeter:
    """Energy from the meter's creation on, of the processor packages and, for a job on CUDA, of its GPU.

    Package counters wrap (an AMD server's within minutes under load), so a thread reads them often enough; it ends
    with the meter and does not exist where there is no counter.

    Args:
        device: Where the job computes.
        powercap: Root of Linux's powercap tree.
        clock: Seconds, from any start.
    """

    def __init__(
        self, device: torch.device, *, powercap: Path = POWERCAP, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._packages = _package_counters(powercap, clock)
        self._gpu = _gpu_counter(device) if device.type == "cuda" else None
        self._gpu_start = self._gpu() if self._gpu else None
        if self._packages:
            stop = threading.Event()
            weakref.finalize(self, stop.set)
            often_s = max(min(counter.longest_gap_s for counter in self._packages) / 4, 1.0)
            arguments = (self._packages, lambda: stop.wait(often_s))
            threading.Thread(target=keep_reading, args=arguments, name="energy", daemon=True).start()

    def read(self) -> dict[str, float | None]:
        """Return joules since the start: `cpu` for all processor packages together, `cuda` for the job's GPU.

        None: the hardware does not tell; for packages also if one of several does not, for a part is no total.
        """
        packages = [counter.read() for counter in self._packages]
        told = [joules for joules in packages if joules is not None]
        now = self._gpu() if self._gpu else None
        return {
            "cpu": sum(told) if packages and len(told) == len(packages) else None,
            "cuda": None if now is None or self._gpu_start is None else now - self._gpu_start,
        }


def keep_reading(counters: Sequence[PackageCounter], wait: Callable[[], bool]) -> None:
    """Read counters until told to stop, so that no wrap is missed.

    Args:
        counters: The counters.
        wait: Waits until the next read is due; returns whether to stop instead.
    """
    while not wait():
        for counter in counters:
            counter.read()


def _package_counters(powercap: Path, clock: Callable[[], float]) -> list[PackageCounter]:
    """One counter per package; none at all if one cannot be read.

    A zone `intel-rapl:<n>` is a package or the whole platform (psys), `intel-rapl:<n>:<m>` a part of a package (core,
    dram), and `intel-rapl-mmio:<n>` the same package read another way. AMD's packages have these names too.
    """
    try:
        zones = sorted(powercap.glob("intel-rapl:*"))
        packages = [zone for zone in zones if (zone / "name").read_text().startswith("package")]
        return [PackageCounter(zone, clock) for zone in packages]
    except (OSError, ValueError) as error:
        logger.debug("the processor's energy is unknown: %s", error)
        return []


def _gpu_counter(device: torch.device) -> Callable[[], float | None] | None:
    """Return what reads the joules of a GPU since its driver was loaded, or None where they are unknown.

    NVML numbers the GPUs of the machine and CUDA those that CUDA_VISIBLE_DEVICES shows, so the GPU is found by its
    UUID. For a slice of a GPU (MIG) there is no counter.
    """
    try:
        nvml: Any = importlib.import_module("pynvml")  # of nvidia-ml-py, which is optional
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except nvml.NVMLError as error:
        logger.debug("the GPU's energy is unknown: %s", error)
        return None

    def read() -> float | None:
        try:
            return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
        except nvml.NVMLError:
            return None

    return read
