"""A change detector: bits may move only together with a RESULTS_VERSION, on the platforms whose bits are known.

`make golden` rewrites golden.json for this machine's platform; the commit that does so says why the numbers moved.
"""

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch

from dctkd import data
from dctkd.identity import ENGINE_RESULTS_VERSION
from dctkd.methods import catalogue

GOLDEN = Path(__file__).with_name("golden.json")


def platform():
    """Name what bits may depend on: kernels are chosen by instruction set, and blocked by the size of caches."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = dict(
        reversed([(line.split(":")[0].strip(), line.partition(":")[2].strip()) for line in lines if ":" in line])
    )
    names = " ".join(cpu.get(key, "?") for key in ("model name", "cpu family", "model", "stepping", "cache size"))
    known = (
        names,
        f"x {os.cpu_count()}",
        torch.backends.cpu.get_cpu_capability(),
        f"torch {torch.__version__.split('+')[0]}",
    )
    return " ".join(known)


def versions():
    methods = {name: entry["results_version"] for name, entry in catalogue.read().items()}
    return {"data": data.RESULTS_VERSION, "engine": ENGINE_RESULTS_VERSION, "methods": methods}


def test_bits_move_only_with_a_results_version(make_experiment, tiny):
    rows = [name for name in catalogue.read() if name != "baseline"]
    tiny["methods"] = dict.fromkeys(["baseline", *rows])
    tiny["recipes"]["short"] |= {"precision": "float32", "threads": 1}
    experiment = make_experiment(tiny).prepare().train()
    hashes = {name: experiment.metrics(name)["weights_sha256"] for name in tiny["methods"]}
    hashes["predictions"] = hashlib.sha256(
        "".join(experiment.metrics(name)["predictions_sha256"] for name in tiny["methods"]).encode()
    ).hexdigest()
    known = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(
            json.dumps({**known, platform(): {"versions": versions(), "hashes": hashes}}, indent=1) + "\n"
        )
        return
    if platform() not in known:
        pytest.skip(f"no golden bits for {platform()}; known: {', '.join(known)}; `make golden` adds them")
    golden = known[platform()]
    if golden["versions"] == versions():
        moved = [name for name in hashes if hashes[name] != golden["hashes"].get(name)]
        assert moved == [], "bits moved: raise the results version of what changed, then `make golden`"
    else:
        assert golden["hashes"] != hashes, "a results version was raised although no bit moved"
        pytest.fail("a results version was raised: `make golden` records the new bits")
