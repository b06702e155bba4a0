"""Questions that take torch or timm, asked in a process of their own: there they may be broken, crash or take long."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

TIMEOUT_S = 60.0

_TORCH = """
import json, sys, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import torch
    num_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
devices = []
for number in range(num_devices):
    free_bytes, total_bytes = torch.cuda.mem_get_info(number)
    name = torch.cuda.get_device_name(number)
    devices.append({"name": name, "free_bytes": free_bytes, "total_bytes": total_bytes})
warning = " ".join(str(caught[-1].message).split())[:200] if caught else ""
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda, "devices": devices, "warning": warning}))
"""


def ask_torch() -> dict[str, Any]:
    """Return `version`, `cuda` (None: built without), `warning` and `devices` of torch; or only `error`, one line.

    Each of the devices has `name`, `free_bytes` and `total_bytes`.
    """
    return _ask(["-c", _TORCH])


def ask_networks(models: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what there is to say about networks (see `networks.describe`); or only `error`, one line."""
    return _ask(["-c", "from dctkd.doctor.networks import main; main()", json.dumps(models)])


def _ask(arguments: list[str]) -> dict[str, Any]:
    with ExitStack() as stack:
        try:  # importing torch leaves folders in TMPDIR
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="dctkd-doctor-"))
        except OSError:  # that there is none is told elsewhere
            return _answer(arguments, {})
        return _answer(arguments, {"TMPDIR": folder, "TORCHINDUCTOR_CACHE_DIR": folder})


def _answer(arguments: list[str], variables: dict[str, str]) -> dict[str, Any]:
    # The other process must import this very package, not one that lies in the working folder (-P).
    folder = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
    try:
        done = subprocess.run(
            [sys.executable, "-B", "-P", *arguments],
            env={**os.environ, "PYTHONPATH": path, **variables},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no answer in {TIMEOUT_S:.0f} s"}
    try:
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        lines = done.stderr.strip().splitlines()
        return {"error": lines[-1][:200] if lines else f"its process ended with status {done.returncode}"}
    return answer
