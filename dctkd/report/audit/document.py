"""docs/audit.md: written from the tables of one or more audited experiments and from the findings they are about."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dctkd.errors import InputError
from dctkd.report.audit.effects import Effect
from dctkd.report.audit.findings import (
    ATTAINABILITY_TABLE,
    SUMMARY_TABLE,
    WEIGHTS_TABLE,
    Entry,
    Evidence,
    Finding,
    Question,
    Source,
    read_entries,
    read_source,
)
from dctkd.report.audit.sentences import verdict
from dctkd.report.statistics import Summary
from dctkd.report.tables.rendering import DASH

RUNS_FILE = "runs.json"
INTRODUCTION = """\
# Audit: what the papers' released code computes, and whether it matters

Written by `dctkd audit document`; do not edit. Made from the tables linked below and from
[paper_tables/findings](../paper_tables/findings).

Every statement is about released code at a commit, cited with file and lines. What a paper's authors ran may differ;
"not known" says what cannot be told from the release. The full texts of the papers were not available. Each finding is
shown on tensors or lists by a unit test. Where training can show an effect, two rows of one experiment that differ in
that one thing are compared: same images, same batches, same start, paired by seed. An effect is "shown" where the
two-sided paired t-test, Holm-corrected over the finding's comparisons, has p < 0.05. With few seeds that takes a large
effect, so "no effect is shown" is no proof that there is none: the interval says how large it may be. The networks are
small and trained from scratch; nothing here says what the same change does to a ResNet-50 on 20,000 photographs.
"""


@dataclass(frozen=True)
class Audited:
    """The published tables of one audited experiment.

    Attributes:
        folder: Where they lie.
        name: Name of the experiment.
        title: Its title.
        command: What makes its tables.
        num_runs: Finished runs of students and teachers.
    """

    folder: Path
    name: str
    title: str
    command: str
    num_runs: int

    def effects(self, entry: Entry) -> list[Effect] | None:
        """Return the effects in the table of a finding, or None if the experiment has no such table."""
        path = self.folder / f"{entry.table}.csv"
        return read_effects(path) if path.is_file() else None


def read_audited(folder: Path) -> Audited:
    """Read which experiment a folder of tables is of.

    Raises:
        InputError: If the folder holds no audited experiment.
    """
    path, summary = folder / RUNS_FILE, folder / f"{SUMMARY_TABLE}.csv"
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        if not summary.is_file():
            raise FileNotFoundError(f"no {summary.name}")
        return Audited(
            folder, described["experiment"], described["title"], described["command"], len(described["runs"])
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder}: not the tables of an audit ({error}); give paper_tables/<experiment> of an experiment with "
            "`audit`, after snakemake"
        ) from error


def read_effects(path: Path) -> list[Effect]:
    """Read the effects of a finding back from its table's CSV file.

    Raises:
        InputError: If the file is not such a table.
    """
    rows: dict[str, dict[str, dict[str, str]]] = {}
    try:
        for line in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
            rows.setdefault(line["row"], {})[line["column"]] = line
        effects = [_effect(label, cells) for label, cells in rows.items()]
        return [effect for effect in effects if effect.difference is not None or any(effect.failed)]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path}: not a table of an audit ({error!r}); make it again with snakemake") from error


def _effect(label: str, cells: Mapping[str, Mapping[str, str]]) -> Effect:
    a, b, difference = (_summary(cells[key]) for key in ("a_percent", "b_percent", "a_minus_b_points"))
    chosen = cells.get("chosen_rows", {}).get("text", "").partition(" / ")
    return Effect(
        label=label,
        a=a,
        b=b,
        difference=difference,
        p=_number(cells["p_holm"]["value"]),
        largest=_number(cells.get("largest_points", {}).get("value", "")),
        weights=(chosen[0], chosen[2]) if chosen[1] else ("", ""),
        failed=(_failed(cells["a_percent"]), _failed(cells["b_percent"])),
        runs=tuple(cells["a_minus_b_points"]["runs"].split()),
    )


def _summary(cell: Mapping[str, str]) -> Summary | None:
    if not cell["value"]:
        return None
    low, high = _number(cell["ci_low"]), _number(cell["ci_high"])
    return Summary(float(cell["value"]), None, int(cell["n"]), low, high, "read from a table")


def _failed(cell: Mapping[str, str]) -> str:
    """Return the runs without an accuracy, which stand in the place of the mean, or in parentheses behind it."""
    text = cell["text"].partition("(")[2].rstrip(")") if cell["value"] else cell["text"]
    return "" if text == DASH else text


def _number(text: str) -> float | None:
    return float(text) if text else None


def render(audited: Sequence[Audited], sources: Sequence[str], *, findings: Path, base: Path) -> str:
    """Return the text of the document.

    Args:
        audited: The experiments, the main one first.
        sources: Names of the files of findings.
        findings: Folder of these files.
        base: Folder of the document, which links are relative to.

    Raises:
        InputError: If a file is missing or broken.
    """
    entries = read_entries(tuple(sources), findings)
    files = {name: read_source(name, findings) for name in sources}
    parts = [INTRODUCTION, *_experiments(audited, base), *_overview(audited, entries)]
    parts.append("## The questions\n")
    for entry in entries.values():
        if not isinstance(entry.content, Question):
            continue
        parts += [f"### {entry.content.title}\n", f"{_plain(entry.content.text)}\n", *_measured(audited, entry)]
    for source in files.values():
        parts += [f"## {source.title}\n", f"{_plain(source.paper)}\n", *_commits(source)]
        for entry in entries.values():
            if entry.source == source and isinstance(entry.content, Finding):
                parts += _finding(audited, entry, entry.content)
    parts += _whole_tables(audited)
    for source in files.values():
        parts += _remarks(source)
    return "\n".join(parts).rstrip("\n") + "\n"


def _experiments(audited: Sequence[Audited], base: Path) -> Iterator[str]:
    yield "Experiments:\n"
    for one in audited:
        where = _relative(one.folder, base)
        yield f"- [{one.name}]({where}): {one.title}; {one.num_runs} runs; `{one.command}`"
    yield ""


def _overview(audited: Sequence[Audited], entries: Mapping[str, Entry]) -> Iterator[str]:
    yield "## At a glance\n"
    yield "| | what | verdict |\n|:--|:--|:--|"
    for key, entry in entries.items():
        said = [f"{one.name}: {verdict(found)}" for one, found in _found(audited, entry)]
        text = "<br>".join(said) or verdict((), not_measured=_reason(entry))
        yield f"| [{key}](#{_anchor(key, entry)}) | {_cell(entry.content.title)} | {_cell(text)} |"
    yield ""


def _found(audited: Sequence[Audited], entry: Entry) -> Iterator[tuple[Audited, list[Effect]]]:
    for one in audited:
        if found := one.effects(entry):
            yield one, found


def _reason(entry: Entry) -> str:
    return entry.not_measured or "no experiment with this comparison has been run"


def _finding(audited: Sequence[Audited], entry: Entry, content: Finding) -> Iterator[str]:
    yield f"### {_heading(entry.id, entry)}\n"
    yield f"{_plain(content.claim)}\n"
    for evidence in content.evidence:
        yield f"- {_evidence(entry.source, evidence)}"
    tests = ", ".join(f"[{Path(path).name}](../{path})" for path in content.shown_by)
    yield f"\n**On tensors and lists** ({tests}): {_plain(content.consequence)}\n"
    yield from _measured(audited, entry)
    yield f"**Not known:** {_plain(content.unknown)}\n"


def _measured(audited: Sequence[Audited], entry: Entry) -> Iterator[str]:
    found = list(_found(audited, entry))
    if not found:
        yield f"**Effect:** {verdict((), not_measured=_reason(entry))}\n"
        return
    for one, effects in found:
        yield f"**{one.name}:** {verdict(effects)}\n"
        yield from _effects_table(effects)


def _effects_table(effects: Sequence[Effect]) -> Iterator[str]:
    has_largest = any(effect.largest is not None for effect in effects)
    has_choice = any(any(effect.weights) for effect in effects)
    more = [*(["largest in one run"] if has_largest else []), *(["chosen: a / b"] if has_choice else [])]
    headings = ["a minus b", "a (%)", "b (%)", "a minus b (points)", "95 % interval", "n", "p (Holm)", *more]
    yield f"| {' | '.join(headings)} |\n|:--{'|--:' * (len(headings) - 1)}|"
    for effect in effects:
        cells = [effect.label, *_numbers(effect)]
        if has_largest:
            cells.append("" if effect.largest is None else f"{effect.largest:.2f}")
        if has_choice:
            cells.append(" / ".join(effect.weights) if any(effect.weights) else "")
        yield f"| {' | '.join(map(_cell, cells))} |"
    yield ""


def _numbers(effect: Effect) -> list[str]:
    sides = zip((effect.a, effect.b), effect.failed, strict=True)
    means = [failed if side is None else f"{side.mean:.2f}" for side, failed in sides]
    difference = effect.difference
    if difference is None:
        return [*means, "", "", "", ""]
    interval = "" if difference.ci_low is None else f"{difference.ci_low:+.2f} to {difference.ci_high:+.2f}"
    p = "" if effect.p is None else f"{effect.p:.3f}"
    return [*means, f"{difference.mean:+.2f}", interval, str(difference.n), p]


def _commits(source: Source) -> Iterator[str]:
    yield f"Code: {source.repository}; " + "; ".join(
        f"*{name}* is [{commit.hash[:7]}]({commit.repository or source.repository}/tree/{commit.hash}) ({commit.what})"
        for name, commit in source.commits.items()
    )
    yield ""


def _evidence(source: Source, evidence: Evidence) -> str:
    return f"[{evidence.place}]({source.link(evidence)}) ({evidence.commit}): {_plain(evidence.shows)}"


def _whole_tables(audited: Sequence[Audited]) -> Iterator[str]:
    """Yield the tables about more than one finding, as they were published."""
    for name, heading in ((WEIGHTS_TABLE, "Weights"), (ATTAINABILITY_TABLE, "Impossible percentages")):
        texts = [(one, path) for one in audited if (path := one.folder / f"{name}.md").is_file()]
        if name == ATTAINABILITY_TABLE:
            texts = texts[:1]  # it is about published numbers: the same in all
        if texts:
            yield f"## {heading}\n"
        for _, path in texts:
            yield path.read_text(encoding="utf-8")


def _remarks(source: Source) -> Iterator[str]:
    if source.remarks:
        yield f"## Seen too: {source.title}\n"
        yield "Not shown on tensors or lists, so no findings of this audit.\n"
    for remark in source.remarks:
        links = "; ".join(_evidence(source, evidence) for evidence in remark.evidence)
        yield f"- **{remark.id.upper()}** {_plain(remark.text)}" + (f" ({links})" if links else "")
    if source.remarks:
        yield ""


def _heading(key: str, entry: Entry) -> str:
    return f"{key.upper()}. {entry.content.title}" if isinstance(entry.content, Finding) else entry.content.title


def _anchor(key: str, entry: Entry) -> str:
    """Return the fragment that GitHub gives a heading."""
    kept = [c for c in _heading(key, entry).lower() if c.isalnum() or c in " -_"]
    return "".join(kept).replace(" ", "-")


def _plain(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|")


def _relative(path: Path, base: Path) -> str:
    return Path(os.path.relpath(path, base)).as_posix()
