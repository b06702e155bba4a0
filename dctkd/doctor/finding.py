"""What a check finds, and what it may look at."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from dctkd.plan import Plan

State = Literal["ok", "note", "warning", "problem"]
STATES: tuple[State, ...] = ("ok", "note", "warning", "problem")
"""From best to worst. note: worth knowing; warning: may go wrong or slowly; problem: does not work as it is."""


@dataclass(frozen=True)
class Finding:
    """What there is to say about one thing.

    Attributes:
        check: What was looked at, a word or two.
        state: How bad it is.
        text: One line.
        remedy: The shell command that mends it, None if there is nothing to mend or no one command for it.
    """

    check: str
    state: State
    text: str
    remedy: str | None = None


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Where to look.

    Attributes:
        folder: Working folder, absolute; results/, paper_tables/ and .snakemake/ lie in it.
        config: Experiment file, None to leave experiments out.
        load_plan: Returns the plan of the experiment file.
        checkout: Folder that the package lies in, with requirements.lock if it is a checkout.
        root: Where /proc, /sys and /dev hang.
    """

    folder: Path
    config: Path | None = None
    load_plan: Callable[[], Plan] | None = None
    checkout: Path = field(default=Path(__file__).parents[2])
    root: Path = Path("/")

    @property
    def results(self) -> Path:
        """The results folder; it need not exist."""
        return self.folder / "results"

    @cached_property
    def planned(self) -> Plan | BaseException | None:
        """The plan of the experiment, or why there is none; None without an experiment file."""
        try:
            return None if self.load_plan is None else self.load_plan()
        except (Exception, SystemExit) as error:  # a method file of the user's can raise anything
            return error

    @property
    def plan(self) -> Plan | None:
        """The plan of the experiment, None if there is none for whatever reason."""
        return None if isinstance(self.planned, BaseException) else self.planned

    def shown(self, path: Path) -> str:
        """Return a path as it is best read and typed: relative if it lies below the working folder."""
        return str(path.relative_to(self.folder)) if path.is_relative_to(self.folder) else str(path)


def existing(path: Path) -> Path:
    """Return a path, or the nearest folder above it that exists."""
    return next(place for place in (path, *path.parents) if os.path.lexists(place))


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    Example:
        >>> counted(1, "run"), counted(2, "run")
        ('1 run', '2 runs')
    """
    return f"{number} {noun}{'s' * (number != 1)}"


Check = Callable[[Surroundings], Iterator[Finding]]
