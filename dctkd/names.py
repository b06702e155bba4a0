"""Names that an experiment gives: they stand in paths, in tables and in commands, so they are plain."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

from dctkd.errors import shown

MAX_NAME = 100
"""Characters; two names and what parts them are the name of a folder, of which file systems take 255 bytes."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*(_[A-Za-z0-9.+-]+)*")


def _check_name(name: str) -> str:
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise ValueError(
            f"expected a name of letters, digits and . + - _ that starts with a letter or digit, holds no double "
            f"underscore and has at most {MAX_NAME} characters, got {shown(name)}"
        )
    return name


Name = Annotated[str, AfterValidator(_check_name)]
"""A name that stands in paths and tables; no double underscore, which parts teacher and student."""

RESERVED_EXPERIMENTS = ("cache", "checks", "findings", "reported", "store")
"""Folders of results/ and paper_tables/ that no experiment may have for its own."""
RESERVED_ROWS = ("student", "teacher")
"""Rows of the tables that are no methods."""
