"""What was found in the code that was released with a paper: read from paper_tables/findings.

Imports neither pandas nor NumPy: a Snakefile, which every cluster job parses again, asks which tables there will be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote

from pydantic import Field, ValidationError, model_validator

from dctkd.errors import InputError, did_you_mean
from dctkd.names import Name
from dctkd.plan import Plan
from dctkd.report.published import REPORTED
from dctkd.strict import Strict
from dctkd.validation import explain
from dctkd.yaml_text import read_yaml

FINDINGS = Path("paper_tables/findings")
"""Where findings lie, relative to the folder of the Snakefile."""

SUMMARY_TABLE, WEIGHTS_TABLE, ATTAINABILITY_TABLE = "audit", "audit_weights", "audit_attainability"
"""Tables that are about more than one finding."""


class Commit(Strict):
    """A state of the released code."""

    hash: str = Field(pattern=r"^[0-9a-f]{40}$")
    what: str = Field(description="branch and date")
    repository: str | None = Field(None, description="where it is; null: in the source's repository")


class Evidence(Strict):
    """Where it can be seen."""

    commit: str = Field(description="short name under commits")
    file: str
    lines: str = Field(min_length=1, description="such as 90-103, or 12, 40-44; the name of a section where lines move")
    shows: str

    @property
    def place(self) -> str:
        """File and lines in words."""
        many = "" if self.lines.isdigit() else "s"
        return f"{self.file}, line{many} {self.lines}" if self.lines[0].isdigit() else f"{self.file}, {self.lines}"


class Finding(Strict):
    """One thing that the released code does and a reader of the paper would not expect."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="for the names of files")
    title: str
    claim: str = Field(description="what the released code does")
    evidence: tuple[Evidence, ...] = Field(min_length=1)
    consequence: str = Field(description="what follows on tensors or lists, with numbers that a test computes")
    unknown: str = Field(description="what cannot be known from the release")
    shown_by: tuple[str, ...] = Field(min_length=1, description="tests that show it")
    not_measured: str = Field("", description="why no training run measures its effect here; empty if one does")


class Question(Strict):
    """A question that several findings raise, which runs answer."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="for the names of files")
    title: str
    text: str = Field(description="what is compared, and why that answers it")


class Remark(Strict):
    """What was seen and cannot be shown on tensors or lists."""

    id: str
    text: str
    evidence: tuple[Evidence, ...] = ()


class Percentages(Strict):
    """Published percentages, each of which must be some number of right test images."""

    values: str = Field(pattern=r"^[\w.-]+\.csv$", description="file in paper_tables/reported")
    metrics: tuple[str, ...] = Field(description="published names of the metrics that count right images")
    num_test_images: dict[str, int] = Field(description="by published name of the dataset")
    batch_size: int | None = Field(None, description="images per test batch of the released meter; null: none is known")
    note: str = Field("", description="what else must be known to read the result")


class Source(Strict):
    """What paper_tables/findings/<name>.yaml says."""

    title: str
    paper: str
    repository: str
    commits: dict[str, Commit] = Field(min_length=1)
    percentages: tuple[Percentages, ...] = ()
    questions: dict[Name, Question] = Field(default_factory=dict)
    findings: dict[Name, Finding] = Field(min_length=1)
    remarks: tuple[Remark, ...] = ()

    @model_validator(mode="after")
    def _commits_are_known(self) -> Self:
        seen = [(f"findings.{key}", one) for key, finding in self.findings.items() for one in finding.evidence]
        seen += [(f"remarks.{remark.id}", one) for remark in self.remarks for one in remark.evidence]
        for where, evidence in seen:
            if evidence.commit not in self.commits:
                raise ValueError(
                    f"{where}.evidence: unknown commit {evidence.commit!r}{did_you_mean(evidence.commit, self.commits)}"
                )
        return self

    @property
    def entries(self) -> Mapping[str, Question | Finding]:
        """Questions, then findings, by id."""
        return {**self.questions, **self.findings}

    def link(self, evidence: Evidence) -> str:
        """Return the address of the lines in the repository, at their commit."""
        commit = self.commits[evidence.commit]
        found = re.match(r"(\d+)(?:-(\d+))?", evidence.lines)
        anchor = "" if found is None else "#" + "-".join(f"L{number}" for number in found.groups() if number)
        return f"{commit.repository or self.repository}/blob/{commit.hash}/{quote(evidence.file)}{anchor}"

    def cite(self, evidence: Evidence) -> str:
        """Return file, lines and commit in words."""
        commit = self.commits[evidence.commit]
        where = "" if commit.repository is None else f"{commit.repository}: "
        return f"{where}{evidence.place}, commit {commit.hash[:7]} ({commit.what})"


@dataclass(frozen=True)
class Entry:
    """A finding or question with its source."""

    id: str
    source: Source
    content: Question | Finding

    @property
    def table(self) -> str:
        """Name of its table's files."""
        return f"audit_{self.id}_{self.content.name}"

    @property
    def not_measured(self) -> str:
        """Why no run measures it, without a full stop; empty for questions and for findings that runs do measure."""
        return self.content.not_measured.rstrip(".") if isinstance(self.content, Finding) else ""


def read_source(name: str, folder: Path = FINDINGS) -> Source:
    """Read `<name>.yaml`.

    Raises:
        InputError: If the file is missing or broken; one line with the file and the place.
    """
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = [file.stem for file in folder.glob("*.yaml")]
        raise InputError(f"audit.sources: {path}: no such file{did_you_mean(name, known)}")
    try:
        return Source.model_validate(read_yaml(path))
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error)}") from error


def read_entries(names: tuple[str, ...], folder: Path = FINDINGS) -> dict[str, Entry]:
    """Return the questions and findings of several sources by id.

    Raises:
        InputError: As in `read_source`; or if two sources use one id.
    """
    found: dict[str, Entry] = {}
    for name in names:
        source = read_source(name, folder)
        for key, content in source.entries.items():
            if key in found:
                raise InputError(f"{folder / name}.yaml: {key} is also in another source; call it otherwise")
            found[key] = Entry(key, source, content)
    return found


def entries_of(plan: Plan, folder: Path = FINDINGS) -> dict[str, Entry]:
    """Return the questions and findings of an experiment's audit by id; none without an audit.

    Raises:
        InputError: As in `read_entries`; or if a contrast is about none of them.
    """
    audit = plan.config.audit
    if audit is None:
        return {}
    entries = read_entries(audit.sources, folder)
    for key in audit.contrasts:
        if key not in entries:
            files = ", ".join(f"{name}.yaml" for name in audit.sources)
            raise InputError(f"{plan.config_file}: audit.contrasts.{key}: not in {files}{did_you_mean(key, entries)}")
    return entries


def audit_table_names(plan: Plan, folder: Path = FINDINGS) -> tuple[str, ...]:
    """Return the names of an audit's files of tables, the summary first; none without an audit.

    Raises:
        InputError: As in `entries_of`.
    """
    entries, audit = entries_of(plan, folder), plan.config.audit
    if audit is None:
        return ()
    return (SUMMARY_TABLE, *(entries[key].table for key in audit.contrasts), WEIGHTS_TABLE, ATTAINABILITY_TABLE)


def finding_files(plan: Plan, folder: Path = FINDINGS) -> Iterator[str]:
    """Yield the files that an experiment's findings and the percentages they look at are read from.

    Raises:
        InputError: As in `entries_of`.
    """
    if plan.config.audit is None:
        return
    entries_of(plan, folder)
    for name in plan.config.audit.sources:
        yield str(folder / f"{name}.yaml")
        yield from (str(REPORTED / one.values) for one in read_source(name, folder).percentages)
