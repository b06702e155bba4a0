"""Touch what a job would make and say that it ended well: `instant_job.py JOBSCRIPT FOLDER`.

Notes how many jobs are open, and when. Standard library alone: it runs once per job.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

PROPERTIES = "# properties = "


def main(jobscript: str, folder: str) -> None:
    """Be a job that profiles/generic/submit.sh hands to its site."""
    lines = Path(jobscript).read_text().splitlines()
    properties = json.loads(next(line for line in lines if line.startswith(PROPERTIES)).removeprefix(PROPERTIES))
    for name in properties["output"]:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    job = Path(folder)
    (job / "status").write_text("0\n")
    num_open = sum(entry.is_dir() for entry in os.scandir(job.parent))
    with Path(os.environ["INSTANT_COUNTS"]).open("a") as file:
        file.write(f"{num_open} {time.time()}\n")
    print(job.name)


if __name__ == "__main__":
    main(*sys.argv[1:])
