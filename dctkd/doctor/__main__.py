"""`python -m dctkd.doctor`: `dctkd doctor --json` without its options, where the command line's own libraries fail."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from dctkd.doctor.examine import as_records, examine, has_problem
from dctkd.doctor.finding import Surroundings

if __name__ == "__main__":
    found = examine(Surroundings(Path.cwd()))
    sys.stdout.write(json.dumps(as_records(found), indent=1) + "\n")
    raise SystemExit(2 if has_problem(found) else 0)
