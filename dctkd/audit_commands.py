"""`dctkd audit`: the document of an audit, and which published percentages are possible at all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

audit_app = typer.Typer(no_args_is_help=True, help="What released code computes: the document, and percentages.")


@audit_app.command("document")
def write_document(
    tables: Annotated[list[Path], typer.Argument(help="folders paper_tables/<experiment> of audits, the main first")],
    to: Annotated[Path, typer.Option(help="Markdown file to write")],
    source: Annotated[list[str] | None, typer.Option(help="name in the folder of findings; repeatable; all")] = None,
    findings: Annotated[Path, typer.Option(help="folder of the findings")] = Path("paper_tables/findings"),
) -> None:
    """Write what was found, with its evidence, and what the tables of audited experiments say of it."""
    from dctkd.provenance import write_atomic
    from dctkd.report.audit.document import read_audited, render
    from dctkd.targets import require_file_target

    require_file_target(to, "--to")
    sources = source or sorted(path.stem for path in findings.glob("*.yaml"))
    text = render([read_audited(folder) for folder in tables], sources, findings=findings, base=to.parent)
    write_atomic(to, text)
    typer.echo(to)


@audit_app.command("percentages")
def examine_percentages(
    values: Annotated[list[str], typer.Argument(help="published accuracies in percent, with all their digits")],
    images: Annotated[int, typer.Option(min=1, help="number of test images")],
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="of a meter that averages batches and counts a short last one in full")
    ] = None,
) -> None:
    """Tell which published accuracies no number of right images gives, and how much that says."""
    from dctkd.errors import InputError
    from dctkd.report.attainability import examine

    try:
        found = examine(values, images, batch_size=batch_size)
    except ValueError as error:
        raise InputError(str(error)) from error
    for value in found.impossible:
        typer.echo(f"{value}: impossible with {images:,} test images")
    possible = float(found.num_possible_by_chance)
    typer.echo(
        f"{len(found.impossible)} of {found.num_values} are impossible; of as many random numbers with these digits "
        f"{found.num_values - possible:.1f} would be"
    )
