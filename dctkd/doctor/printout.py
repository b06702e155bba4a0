"""Findings for people: one line each, by group, and last what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dctkd.doctor.finding import STATES, Finding

STYLES = {"ok": "green", "note": "cyan", "warning": "yellow", "problem": "bold red"}
CONFIG_HINT = "An experiment was not looked at; `dctkd doctor --config FILE` does."


def print_findings(groups: Mapping[str, Sequence[Finding]], *, has_config: bool) -> None:
    """Print every finding under its group's title, then the warnings and problems with the commands that mend them."""
    console = Console()
    for title, findings in groups.items():
        if findings:
            console.print(Text(title, style="bold"))
            console.print(_table(findings))
    found = [finding for findings in groups.values() for finding in findings]
    mended = [finding for state in ("problem", "warning") for finding in found if finding.state == state]
    if mended:
        console.print(Text("what to do", style="bold"))
    tasks: dict[str, list[Finding]] = {}
    for finding in mended:
        tasks.setdefault(finding.remedy or finding.text, []).append(finding)
    for number, task in enumerate(tasks.values(), 1):
        _print_task(console, number, task)
    counts = {state: sum(finding.state == state for finding in found) for state in STATES[:0:-1]}
    summary = ", ".join(f"{count} {state}{'s' * (count > 1)}" for state, count in counts.items() if count)
    console.print(Text(summary or "all is well", style="bold"))
    if not has_config:
        console.print(Text(CONFIG_HINT))


def _table(findings: Sequence[Finding]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(width=9, no_wrap=True)
    table.add_column(width=17)
    table.add_column(overflow="fold")
    for finding in findings:
        text = Text(finding.text)
        if finding.state == "note" and finding.remedy:
            text.append(f"\n$ {finding.remedy}", style="dim")
        table.add_row(Text(f"  {finding.state}", style=STYLES[finding.state]), finding.check, text)
    return table


def _print_task(console: Console, number: int, findings: Sequence[Finding]) -> None:
    """What was found stands above, so only the command is given; unwrapped, so that it can be copied."""
    first = findings[0]
    names = ", ".join(dict.fromkeys(finding.check for finding in findings))
    line = Text.assemble(f"  {number}. ", (names, STYLES[first.state]))
    if first.remedy is None:
        console.print(Padding(Text.assemble(line, f": {first.text}"), 0))
    else:
        console.print(line)
        console.print(Text(f"     {first.remedy}"), soft_wrap=True)
