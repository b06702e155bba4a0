"""The command line: parses arguments, sets up logging, turns errors into one line and an exit status.

Status 0: done (also for runs that diverged: that is a result). 1: a run crashed. 2: something the user can mend.
75: stopped by a signal, everything saved; run the same command again.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from dctkd.audit_commands import audit_app
from dctkd.errors import InputError, shown
from dctkd.exits import run_to_exit
from dctkd.large_imports import import_large
from dctkd.places import RESULTS, results_of
from dctkd.store_commands import store_app

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True, help=__doc__)
data_app = typer.Typer(no_args_is_help=True, help="Datasets: from photographs to cached pixels.")
methods_app = typer.Typer(no_args_is_help=True, help="Distillation methods: list, check, describe.")
app.add_typer(data_app, name="data")
app.add_typer(methods_app, name="methods")
app.add_typer(store_app, name="store")
app.add_typer(audit_app, name="audit")

PlanOption = Annotated[Path, typer.Option("--plan", help="plan.json of an experiment, written when snakemake starts")]
ConfigOption = Annotated[Path, typer.Option("--config", help="experiment file")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="KEY=VALUE that replaces a top-level key; repeatable")
]
DeviceOption = Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda; default: the experiment's")]
EdgesArgument = Annotated[list[Path], typer.Argument(help="files below results/ that name the wanted runs")]


@app.command()
def plan(
    config: ConfigOption, set_: SetOption = None, as_json: Annotated[bool, typer.Option("--json")] = False
) -> None:
    """Show what an experiment would train, and what that costs, before anything is trained."""
    import_large("timm", "dctkd.engine.estimate")
    from dctkd.engine.estimate import estimate, print_estimate

    experiment = _load_plan(config, set_)
    try:
        costs = estimate(experiment, RESULTS)
    except InputError as error:  # of networks and photographs, which know nothing of the file
        raise InputError(f"{config}: {error}") from error
    if as_json:
        typer.echo(json.dumps(costs, indent=1))
    else:
        print_estimate(costs)


@app.command()
def status(
    config: ConfigOption, set_: SetOption = None, as_json: Annotated[bool, typer.Option("--json")] = False
) -> None:
    """Tell which runs are done, running (with the time left), failed (with the reason) or waiting."""
    from dctkd.status import print_status, read_status

    rows = read_status(_load_plan(config, set_), RESULTS)
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        print_status(rows)


@app.command()
def doctor(
    config: Annotated[Path | None, typer.Option("--config", help="also look at what this experiment needs")] = None,
    set_: SetOption = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Look for what is wrong with machine, installation, working folder and experiment. Status 2: a problem."""
    from functools import partial

    from dctkd.doctor.examine import as_records, examine, has_problem
    from dctkd.doctor.finding import Surroundings
    from dctkd.doctor.printout import print_findings

    load_plan = None if config is None else partial(_load_plan, config, set_)
    found = examine(Surroundings(Path.cwd(), config, load_plan))
    if as_json:
        typer.echo(json.dumps(as_records(found), indent=1))
    else:
        print_findings(found, has_config=config is not None)
    if has_problem(found):
        raise SystemExit(2)


@data_app.command("pack")
def pack_data(
    edges: EdgesArgument,
    plan_file: PlanOption,
    workers: Annotated[int, typer.Option(min=1, help="processes that decode; changes the time, never the pixels")] = 1,
) -> None:
    """Decode each dataset once into the pixel cache and publish its data.json."""
    from dctkd.engine.packing import publish_data
    from dctkd.plan_file import read_plan_of_jobs

    experiment = read_plan_of_jobs(plan_file)
    results, paths = _below_results(plan_file, edges)
    with _job():
        for path in paths:
            publish_data(experiment, results / path, results, workers=workers, progress=_progress_of_packing())


@data_app.command("verify")
def verify_data(
    cache: Annotated[Path, typer.Argument(help="folder of a pixel cache, results/cache/<dataset>")],
    workers: Annotated[int, typer.Option(min=1, help="processes that hash")] = 1,
) -> None:
    """Read a pixel cache again and compare it with its fingerprint. Status 2: damaged or changed."""
    from dctkd.data.verify import verify_cache

    verified = verify_cache(cache, workers=workers, progress=_progress_of_packing("verifying images"))
    typer.echo(f"{cache}: as packed, fingerprint {verified.fingerprint}")


@data_app.command("fetch")
def fetch_data(
    name: Annotated[str, typer.Argument(help="ade20k, mit67, miniplaces or sun397")],
    root: Annotated[Path, typer.Option(help="folder that datasets lie in; made if missing")],
    file: Annotated[
        list[Path] | None, typer.Option(help="an official file, or a folder of some, that is here; repeatable")
    ] = None,
) -> None:
    """Download a dataset's official files, check and unpack them. No other command downloads a dataset."""
    from dctkd.data.fetch import fetch

    for line in fetch(name, root, given=file or [], tell=typer.echo):
        typer.echo(line)


@data_app.command("check")
def check_data(
    name: Annotated[str, typer.Argument(help="format: ade20k, imagefolder, ...")],
    root: Annotated[Path, typer.Option(help="folder of the copy; only read")],
    option: Annotated[list[str] | None, typer.Option(help="KEY=VALUE of the format's options; repeatable")] = None,
    lists: Annotated[
        tuple[Path, Path] | None, typer.Option(help="a training and a test list to compare: one path per line")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="processes that decode; changes the time, never the report")] = 1,
    to: Annotated[Path, typer.Option(help="folder of check-<name>.md and .json")] = RESULTS / "checks",
) -> None:
    """Report on a copy of a dataset: counts, damaged and doubled files, possible accuracy. Status 2: not usable."""
    from dctkd.data.check import Request, check
    from dctkd.data.check.report import require_outside, to_markdown, write_report

    require_outside(root, to)
    request = Request(name, root, _key_values("--option", option), lists)
    result = check(request, workers=workers, progress=_progress_of_packing("checking images"))
    typer.echo(to_markdown(result), nl=False)
    write_report(result, to)
    raise SystemExit(result["verdict"]["exit_status"])


@app.command()
def train(edges: EdgesArgument, plan_file: PlanOption, device: DeviceOption = None) -> None:
    """Train runs side by side on one teacher pass, test and publish them; what is finished is only published."""
    from dctkd.engine.interrupt import Interrupt, die_with_parent
    from dctkd.engine.job import make_job, run_job
    from dctkd.plan_file import read_plan_of_jobs

    experiment = read_plan_of_jobs(plan_file)
    results, paths = _below_results(plan_file, edges)
    runs = [experiment.at(path) for path in paths]
    die_with_parent()
    if sys.stderr.isatty():
        logging.getLogger().setLevel(logging.WARNING)  # epoch lines would tear the progress bar; log.txt has them
    with Interrupt().listening() as interrupt:
        chosen = device or experiment.config.device
        run_job(make_job(experiment, runs, results, device=chosen, show_progress=sys.stderr.isatty()), interrupt)


@app.command()
def overlap(edges: EdgesArgument, plan_file: PlanOption, device: DeviceOption = None) -> None:
    """Measure where finished students look, against their teacher and annotated objects; nothing is trained."""
    from dctkd.engine.overlap import measure_overlap
    from dctkd.plan_file import read_plan_of_jobs

    experiment = read_plan_of_jobs(plan_file)
    results, paths = _below_results(plan_file, edges)
    with _job():
        measure_overlap(
            experiment, [results / path for path in paths], results, device=device or experiment.config.device
        )


@app.command()
def cost(target: Path, plan_file: PlanOption) -> None:
    """Count GMACs and parameters of every network, and what each method adds in training."""
    import_large("timm", "dctkd.engine.cost")
    from dctkd.engine.census import published_census
    from dctkd.engine.cost import measure_costs
    from dctkd.plan_file import read_plan_of_jobs
    from dctkd.store import write_json
    from dctkd.targets import require_file_target

    require_file_target(target, "target")
    experiment = read_plan_of_jobs(plan_file)
    with _job():
        write_json(target, measure_costs(experiment, published_census(experiment, results_of(plan_file))))


@app.command()
def speed(target: Path, plan_file: PlanOption) -> None:
    """Time every network on this machine, and estimate the experiment's hours from a few training steps."""
    import_large("timm", "dctkd.engine.speed")
    from dctkd.engine.speed import measure_speed
    from dctkd.plan_file import read_plan_of_jobs
    from dctkd.store import write_json
    from dctkd.targets import require_file_target

    require_file_target(target, "target")
    with _job():
        write_json(target, measure_speed(read_plan_of_jobs(plan_file), results_of(plan_file)))


@app.command()
def report(
    plan_file: PlanOption,
    to: Annotated[Path, typer.Option(help="folder of the tables and figures")],
    partial: Annotated[bool, typer.Option("--partial", help="from what the store has now; gaps are dashes")] = False,
    workers: Annotated[int, typer.Option(min=1, help="processes that draw; changes the time, never the files")] = 1,
) -> None:
    """Regenerate tables and figures from finished runs."""
    from dctkd.report import build
    from dctkd.targets import require_folder_target

    if plan_file.name != "plan.json":
        raise InputError(f"--plan {plan_file}: expected results/<experiment>/plan.json, beside which the results lie")
    require_folder_target(to, "--to")
    with _job():
        for path in build(plan_file.parent, results_of(plan_file) / "store", to, partial=partial, workers=workers):
            typer.echo(path)


@app.command("compare")
def compare_two(
    a: Annotated[str, typer.Argument(help="a method, or a folder results/<experiment>")],
    b: Annotated[str, typer.Argument(help="the same kind of thing")],
    experiment: Annotated[str | None, typer.Option(help="where the two methods are; default: the only one")] = None,
) -> None:
    """Compare two methods, or two experiments, paired by seed: differences, intervals and tests."""
    from dctkd.report import compare

    typer.echo(compare(a, b, RESULTS, experiment))


@methods_app.command("list")
def list_methods(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """List the methods with paper, year, features used, default weight and its source."""
    from dctkd.methods import catalogue

    entries = catalogue.read()
    if as_json:
        typer.echo(json.dumps(entries, indent=1))
        return
    columns = ["method", "year", "uses", "weight", "ce", "warm-up", "options", "paper", "source of the weight"]
    _print_table(columns, [_method_row(name, entry) for name, entry in entries.items()])


@methods_app.command("check")
def check_methods(file: Annotated[Path, typer.Argument(help="Python file that defines one method")]) -> None:
    """Run the contract of a method on a file of your own."""
    from dctkd.methods import load_method
    from dctkd.methods.contract import check_method

    outcomes = check_method(load_method(file))
    for name, passed, message in outcomes:
        typer.echo(f"{'ok  ' if passed else 'FAIL'} {name}{'' if passed else f': {message}'}")
    if not all(passed for _, passed, _ in outcomes):
        raise SystemExit(1)


@methods_app.command("sync")
def sync_methods(
    docs: Annotated[Path | None, typer.Option(help="also write the handbook of the methods to this file")] = None,
) -> None:
    """Rewrite the catalogue that plans read, after a method of the package changed."""
    from dctkd.methods import catalogue, handbook

    catalogue.write()
    if docs is not None:
        handbook.write(docs)


def _method_row(name: str, entry: dict[str, Any]) -> list[str]:
    numbers = [f"{entry[key]:g}" for key in ("default_weight", "default_ce", "default_warmup_epochs")]
    texts = [_options_text(entry), entry["paper"], entry["default_weight_source"]]
    return [name, str(entry["year"] or ""), entry["features"], *numbers, *texts]


def _options_text(entry: dict[str, Any]) -> str:
    properties = entry["options_schema"].get("properties", {})
    return ", ".join(f"{name}={schema.get('default', 'required')}" for name, schema in properties.items())


def _print_table(columns: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


@contextmanager
def _job() -> Iterator[None]:
    """A job of Snakemake whose every write is whole: it dies with its parent and stops at once when asked to."""
    from dctkd.engine.interrupt import die_with_parent, unwinding

    die_with_parent()
    with unwinding():
        yield


def _load_plan(config: Path, settings: list[str] | None) -> Any:
    from dctkd.config import resolve
    from dctkd.plan import make_plan
    from dctkd.site import with_site
    from dctkd.workflow import Slots
    from dctkd.yaml_text import read_yaml

    raw = {**with_site(read_yaml(config)), **_key_values("--set", settings)}
    experiment, here = resolve(raw, where=str(config)), Slots(cores=os.cpu_count())
    return make_plan(experiment, config_file=str(config), jobs=here.num_jobs(experiment, "cpu"))


def _key_values(name: str, settings: list[str] | None) -> dict[str, Any]:
    """Read the values of an option that is given as KEY=VALUE, VALUE in YAML."""
    from dctkd.yaml_text import parse_yaml

    values: dict[str, Any] = {}
    for setting in settings or []:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise InputError(f"{name} {shown(setting, quote='')}: expected KEY=VALUE")
        if key in values:
            raise InputError(f"{name} {key}: is given twice; keep one of them")
        values[key] = parse_yaml(value, where=f"{name} {shown(key, quote='')}")
    return values


def _below_results(plan_file: Path, edges: list[Path]) -> tuple[Path, list[str]]:
    """Return the results folder of a plan, and where edges lie in it."""
    results = results_of(plan_file)
    for edge in edges:
        if not edge.absolute().is_relative_to(results.absolute()):
            raise InputError(f"{edge}: expected a path below {results}/, relative to the working folder")
    return results, [edge.absolute().relative_to(results.absolute()).as_posix() for edge in edges]


def _progress_of_packing(title: str = "packing images") -> Any:
    if not sys.stderr.isatty():
        return None
    import atexit

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True))
    task = bar.add_task(title, total=None)
    atexit.register(bar.stop)  # after an error too: the bar hides the cursor

    def show(done: int, total: int) -> None:
        if not bar.live.is_started:
            bar.reset(task, completed=done - 1, total=total)  # what is there from before says nothing about the speed
            bar.start()
        bar.update(task, completed=done)
        if done == total:
            bar.stop()

    return show


def main() -> NoReturn:
    """Run the command line."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # tells of every glyph that a PDF figure embeds
    run_to_exit(app)
