"""Run the benchmarks, print what they find, write results.md and docs/scaling.md; status 1 if a bound is broken.

python -m benchmarks [--only NAME ...] [--photographs FOLDER] [--quick] [--to FILE]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.dag_speed import measure_dag
from benchmarks.data_speed import measure_data
from benchmarks.end_to_end import measure_end_to_end
from benchmarks.filter_cost import measure_filter
from benchmarks.method_cost import measure_methods
from benchmarks.pack_speed import measure_packs
from benchmarks.paper_rates import measure_paper_cost
from benchmarks.results import Section, machine, renewed, to_markdown
from benchmarks.scaling import renew_page
from benchmarks.settings import Setting
from benchmarks.step_speed import measure_steps
from benchmarks.submit_speed import measure_submission
from benchmarks.time_split import measure_time_split

BENCHMARKS: Mapping[str, Callable[[Setting], Section]] = {
    "step": measure_steps,
    "pack": measure_packs,
    "end-to-end": measure_end_to_end,
    "data": measure_data,
    "methods": measure_methods,
    "filter": measure_filter,
    "split": measure_time_split,
    "dag": measure_dag,
    "submit": measure_submission,
    "paper": measure_paper_cost,
}
PAGES: Mapping[str, Callable[[Path], None]] = {"scaling": renew_page}
"""What measures nothing, but follows from the recorded results."""
RESULTS = Path(__file__).with_name("results.md")


def main(arguments: list[str]) -> int:
    """Run what is asked for; a quick or partial run writes only where it is told to."""
    options = _parse(arguments)
    setting = Setting(options.photographs, options.quick)
    print(machine(), flush=True)
    sections = []
    names = options.only or [*BENCHMARKS, *PAGES]
    for name in names:
        if name in PAGES:
            continue
        started = time.perf_counter()
        section = BENCHMARKS[name](setting)
        sections.append(section)
        print(f"\n{section}\n\n({name}: {time.perf_counter() - started:.0f} s)", flush=True)
    target = options.to or (None if options.only or options.quick else RESULTS)
    if target is not None:
        is_part = bool(options.only) and target.exists()
        target.write_text(renewed(target.read_text(), sections) if is_part else to_markdown(sections))
    for name in names:
        if name in PAGES and not options.quick:
            PAGES[name](RESULTS)
    return 0 if options.quick else int(not all(section.holds for section in sections))


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [*BENCHMARKS, *PAGES]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--photographs", type=Path, help="folder of real JPEGs; default: generated ones")
    parser.add_argument("--quick", action="store_true", help="see that everything runs; the numbers mean nothing")
    parser.add_argument("--to", type=Path, help="write the findings there; with --only renew their sections of a file")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
