"""Imports of large libraries, with the garbage collector out of their way."""

from __future__ import annotations

import atexit
import gc
import sys
from importlib import import_module


def import_large(*names: str) -> None:
    """Import modules that drag in large libraries, such as torch and timm; an `import` of them costs nothing then.

    These libraries make hundreds of thousands of objects that live as long as the process. A collector that looks at
    them again and again takes a quarter of the time of the import.

    Args:
        names: Full names of modules.

    Raises:
        ImportError: As an `import` of them.
    """
    if all(name in sys.modules for name in names):
        return
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        for name in names:
            import_module(name)
    finally:
        if was_enabled:
            gc.enable()
            gc.freeze()
            atexit.register(gc.unfreeze)  # some libraries complain of what Python leaves behind when it ends
