"""`dctkd store`: what lies in the results store, whether it is whole, what can go, and how runs travel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

RESULTS = Path("results")
SHORT = 12
"""Hex digits of a digest that are shown; as many as are needed can be given back."""

store_app = typer.Typer(
    no_args_is_help=True, help="Finished runs: list, verify, collect garbage, export and import them."
)
DigestsArgument = Annotated[list[str] | None, typer.Argument(help="starts of digests, as `dctkd store list` shows")]
ExperimentOption = Annotated[str | None, typer.Option("--experiment", help="only the runs of this experiment")]


@store_app.command("list")
def list_runs(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """List every run: status, names, experiments that show it, size, age, platform."""
    from dctkd.store.inventory import inventory

    rows = inventory(RESULTS)
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    columns = ("digest", "status", "dataset", "pair", "method", "seed", "experiments", "size", "age", "platform")
    table = Table(*columns)
    for row in rows:
        table.add_row(*_cells(row))
    console = Console()
    if rows:
        console.print(table)
    console.print(f"{len(rows)} runs, {_size(sum(row['bytes'] for row in rows))}")


@store_app.command("verify")
def verify_runs(
    digests: DigestsArgument = None,
    experiment: ExperimentOption = None,
    mend: Annotated[bool, typer.Option("--mend", help="remove what is damaged: snakemake makes it again")] = False,
) -> None:
    """Check runs, measurements and published results against their seals. Status 2: something is damaged."""
    from dctkd.store.removal import mend as mend_damage
    from dctkd.store.verify import verify

    found = verify(RESULTS, digests or (), experiment)
    for folder in found.in_training:
        typer.echo(f"{folder.path}: left out, it is being trained by {folder.owner()}")
    num_left = 0
    if mend:
        for damage, is_gone in mend_damage(found.damages):
            done = "removed" if is_gone else "LEFT: it is in use, or a link to elsewhere; remove it by hand"
            typer.echo(f"{damage.path}: {damage.what}; {done}")
            num_left += not is_gone
    else:
        for damage in found.damages:
            typer.echo(f"{damage.path}: {damage.what}; `dctkd store verify --mend` removes it")
        num_left = len(found.damages)
    typer.echo(
        f"{found.num_runs} runs, {found.num_measurements} measured, {found.num_edges} published files: "
        f"{len(found.damages)} damaged"
    )
    if found.damages and not num_left:
        typer.echo("run snakemake again, as before: it makes just these again")
    if num_left:
        raise SystemExit(2)


@store_app.command("gc")
def collect_garbage(
    do_delete: Annotated[bool, typer.Option("--delete", help="free it; without this it is only shown")] = False,
) -> None:
    """Show, or delete, what no experiment below results/ needs, and what killed processes left."""
    from dctkd.store.removal import delete, find_garbage

    garbage, left_alone = find_garbage(RESULTS)
    for line in left_alone:
        typer.echo(f"{line}; left alone")
    freed = [(one, True) for one in garbage] if not do_delete else list(delete(garbage))
    for one, is_gone in freed:
        typer.echo(f"{one.path}: {one.why}, {_size(one.num_bytes)}{'' if is_gone else '; LEFT: it is in use now'}")
    total = _size(sum(one.num_bytes for one, is_gone in freed if is_gone))
    typer.echo(f"{total} freed" if do_delete else f"{total} can be freed: say --delete")


@store_app.command("export")
def export_to(
    archive: Annotated[Path, typer.Argument(help="file to write; ends in .tar or .tar.gz")],
    digests: DigestsArgument = None,
    experiment: ExperimentOption = None,
) -> None:
    """Write finished runs and the teachers they need to an archive; without a choice, all."""
    from dctkd.store.exchange import export_runs

    written, unfinished = export_runs(RESULTS, archive, digests=digests or (), experiment=experiment)
    left_out = f"; {len(unfinished)} are not finished and left out" if unfinished else ""
    typer.echo(f"{archive}: {len(written)} runs, {_size(archive.stat().st_size)}{left_out}")


@store_app.command("import")
def import_from(archive: Annotated[Path, typer.Argument(help="what `dctkd store export` wrote")]) -> None:
    """Take runs out of an archive, each checked first. Status 2: some contradict what is here, which is kept."""
    from dctkd.store.exchange import import_runs

    done = import_runs(RESULTS, archive)
    for digest, why in done.refused.items():
        typer.echo(f"{digest}: refused: {why}; what is here is kept")
    typer.echo(f"{archive}: {len(done.added)} runs added, {len(done.known)} were here, {len(done.refused)} refused")
    if done.refused:
        raise SystemExit(2)


def _cells(row: dict[str, Any]) -> list[str]:
    seed = "" if row["seed"] is None else str(row["seed"])
    names = [row["dataset"], row["pair"], row["method"], seed, " ".join(row["experiments"])]
    return [row["digest"][:SHORT], row["status"], *names, _size(row["bytes"]), _age(row["age_s"]), row["platform"]]


def _size(num_bytes: float) -> str:
    """Return a size as it is read best.

    Example:
        >>> _size(999), _size(12_345_678)
        ('999 B', '12.3 MB')
    """
    for factor, unit in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if num_bytes >= factor:
            return f"{num_bytes / factor:.1f} {unit}"
    return f"{num_bytes:.0f} B"


def _age(seconds: float) -> str:
    """Return an age in its largest unit.

    Example:
        >>> _age(30), _age(7200), _age(200_000)
        ('0 min', '2 h', '2 d')
    """
    if seconds < 3600:
        return f"{seconds // 60:.0f} min"
    return f"{seconds // 3600:.0f} h" if seconds < 48 * 3600 else f"{seconds // 86400:.0f} d"
