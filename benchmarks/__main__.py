"""Run the benchmarks, print their ratios, fail if one is out of bounds.

python -m benchmarks [--photographs FOLDER]
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import torch

from benchmarks.data_speed import measure_cache_against_pil, measure_full_scale
from benchmarks.filter_cost import measure_filter
from benchmarks.method_cost import measure_methods, print_costs
from benchmarks.ratios import Ratio
from benchmarks.step_speed import measure_step_against_bare_torch
from dctkd.engine.device import cpu_model, resolve_precision


def main() -> int:
    """Print every ratio; return 1 if one is out of bounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, help="folder of real photographs; default: generated ones")
    parser.add_argument("--steps", type=int, default=40, help="timed steps of each loop")
    arguments = parser.parse_args()
    precision = resolve_precision("auto", "cpu")
    print(f"{cpu_model()}, {os.cpu_count()} cores, torch {torch.__version__}, {precision}")
    costs, limited = measure_methods(precision=precision)
    print_costs(costs)
    ratios: list[Ratio] = [
        measure_step_against_bare_torch(num_steps=arguments.steps, precision=precision),
        measure_cache_against_pil(arguments.photographs),
        *measure_full_scale(arguments.photographs),
        *limited,
        *measure_filter(),
    ]
    for ratio in ratios:
        print(ratio)
    return int(not all(ratio.holds for ratio in ratios))


sys.exit(main())
