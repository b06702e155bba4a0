"""The campaign is a script of its own, and the tests use it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
