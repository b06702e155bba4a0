"""Kill an experiment at random points, run the same command again, and compare every bit with an undisturbed run.

    python tests/faults/campaign.py --config config/demo.yaml --rounds 4 --write docs/reliability.md

A round is a fresh folder. In it Snakemake is started again and again; each time a kill waits for its phase (a process
that packs, trains, measures or draws), then for a random delay, and strikes: SIGKILL, SIGTERM or SIGINT, at the job, at
Snakemake, or at both. At last the command is run to its end.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
TARGETS = ("job", "snakemake", "both")
DETERMINISTIC = {
    "metrics.json",
    "teacher.json",
    "data.json",
    "overlap.json",
    "predictions.parquet",
    "weights.safetensors",
    "history.jsonl",
}
"""Files whose bits do not depend on when and how often an experiment was stopped."""

PUBLISHING_S = 0.2
"""A pack's results appear in the store, and are published, within so many seconds."""

LONGEST_DELAY_S = 15.0
"""A kill strikes at most so long after the start of its job, so that enough is left for the kills after it."""

GRACE_S = 4.0
PATIENCE_S = 900.0
ORPHAN_S = 20.0


@dataclass(frozen=True)
class Phase:
    """A part of the work, known by the command line of its process.

    Attributes:
        name: For the table.
        words: All of them stand in the command line.
        rank: Phases of a higher one come later; cost and speed are measured at any time after packing.
        at_result: Count the delay from the first result that appears in the store, not from the process's start.
    """

    name: str
    words: tuple[str, ...]
    rank: int = 0
    at_result: bool = False

    def is_of(self, command: str) -> bool:
        """Tell whether a process with this command line does this part."""
        return all(word in command for word in self.words)


@dataclass(frozen=True)
class Kill:
    """What is sent to whom, and when."""

    phase: Phase
    target: str
    number: signal.Signals
    delay_s: float


@dataclass
class Outcome:
    """What a kill did.

    Attributes:
        status: Exit status of Snakemake; minus the signal that ended it.
        orphans: Commands that went on without their Snakemake.
        seconds: From the signal to the end of Snakemake and its jobs.
    """

    kill: Kill
    status: int
    orphans: list[str]
    seconds: float


@dataclass
class Campaign:
    """Kills in one working folder.

    Attributes:
        folder: Working folder.
        arguments: Of Snakemake: what tells the experiment.
        outcomes: Of the kills so far.
        durations_s: By name of phase, what `finish` has seen.
    """

    folder: Path
    arguments: Sequence[str]
    outcomes: list[Outcome] = field(default_factory=list)
    durations_s: dict[str, float] = field(default_factory=dict)

    def start(self) -> subprocess.Popen[bytes]:
        """Start Snakemake as the leader of a process group, as a terminal does."""
        profile = REPOSITORY / "profiles/default"
        command = [sys.executable, "-m", "snakemake", "--snakefile", REPOSITORY / "Snakefile"]
        command += ["--workflow-profile", profile, "--cores", "2", *self.arguments]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        with (self.folder / "snakemake.log").open("ab") as log:
            return subprocess.Popen(
                [str(part) for part in command],
                cwd=self.folder,
                env={**os.environ, "PATH": path},
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=heed_signals,
            )

    def finish(self) -> int:
        """Run the command to its end; note how long the process of each phase takes at most."""
        snakemake = self.start()
        first_s: dict[int, float] = {}
        while snakemake.poll() is None:
            for process, command in self._jobs():
                now = time.monotonic()
                for phase in PHASES:
                    if phase.is_of(command):
                        seconds = now - first_s.setdefault(process, now)
                        self.durations_s[phase.name] = max(seconds, self.durations_s.get(phase.name, 0.0))
            time.sleep(0.05)
        return snakemake.wait()

    def strike(self, kill: Kill) -> Outcome | None:
        """Run the command until the kill's moment has come; None if it came to its end before.

        Where the phase is over, or its job ends before the moment, the kill strikes the job that runs then.
        """
        snakemake = self.start()
        self._wait_for(kill, snakemake)
        time.sleep(kill.delay_s)
        found = self._job_for(kill.phase)
        while found is None and snakemake.poll() is None:
            time.sleep(0.02)
            found = self._job_for(kill.phase)
        if found is None:
            return None
        job, phase = found
        started_s = time.monotonic()
        if kill.target == "both" and kill.number == signal.SIGINT:
            os.killpg(snakemake.pid, signal.SIGINT)  # Ctrl-C
        else:
            for process in {"job": [job], "snakemake": [snakemake.pid], "both": [job, snakemake.pid]}[kill.target]:
                with suppress(ProcessLookupError):
                    os.kill(process, kill.number)
        status = self._end_of(snakemake)
        orphans = self._orphans()
        outcome = Outcome(replace(kill, phase=phase), status, orphans, time.monotonic() - started_s)
        self.outcomes.append(outcome)
        return outcome

    def _end_of(self, snakemake: subprocess.Popen[bytes]) -> int:
        """Wait for the end; where Snakemake goes on with other jobs, press Ctrl-C: they are for later kills."""
        try:
            return snakemake.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            os.killpg(snakemake.pid, signal.SIGINT)
            return snakemake.wait(PATIENCE_S)

    def _wait_for(self, kill: Kill, snakemake: subprocess.Popen[bytes]) -> None:
        """Wait until a job of the phase, or of a later one, has begun, or has left a result."""
        known = set(self._results())
        until_s = time.monotonic() + PATIENCE_S
        found = None
        while snakemake.poll() is None and (found is None or (found[1].at_result and not set(self._results()) - known)):
            if time.monotonic() > until_s:
                snakemake.kill()
                raise TimeoutError(f"{kill.phase.name}: nothing to kill within {PATIENCE_S} s")
            found = self._job_for(kill.phase)
            time.sleep(0.002 if found and found[1].at_result else 0.02)

    def _job_for(self, phase: Phase) -> tuple[int, Phase] | None:
        """Return a living job of a phase, else one of a later phase, with its phase."""
        later = None
        for process, command in self._jobs():
            if phase.is_of(command):
                return process, phase
            later = next(
                ((process, other) for other in PHASES if other.is_of(command) and other.rank > phase.rank), later
            )
        return later

    def _results(self) -> Iterator[str]:
        return (str(path) for path in (self.folder / "results/store").glob("*/metrics.json"))

    def _jobs(self) -> Iterator[tuple[int, str]]:
        """Yield the processes of the suite that run in this folder."""
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with suppress(OSError):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if "/dctkd " in command and (entry / "cwd").readlink() == self.folder and "bash" not in command[:12]:
                    yield int(entry.name), command

    def _orphans(self) -> list[str]:
        until_s = time.monotonic() + ORPHAN_S
        while (left := [command for _, command in self._jobs()]) and time.monotonic() < until_s:
            time.sleep(0.05)
        return left

    def bits(self) -> dict[str, str]:
        """Map every deterministic file below results/ to its hash."""
        paths = [path for path in sorted((self.folder / "results").rglob("*")) if path.name in DETERMINISTIC]
        return {
            str(path.relative_to(self.folder / "results")): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in paths
            if not path.is_symlink() and path.is_file()
        }


def heed_signals() -> None:
    """Let a child be asked to stop as in a terminal: shells let background jobs ignore Ctrl-C, nohup the hang-up."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def kills(phases: Sequence[Phase], durations_s: Mapping[str, float], seed: int) -> list[Kill]:
    """Return one kill per phase named, in order; every signal meets every target before one comes again."""
    source = random.Random(seed)
    ways = list(itertools.product(TARGETS, SIGNALS))
    source.shuffle(ways)
    return [
        Kill(phase, *way, source.uniform(0, _longest_delay_s(phase, durations_s)))
        for phase, way in zip(phases, itertools.cycle(ways), strict=False)
    ]


PACKING = Phase("packing", ("data pack",), 0)
TEACHER = Phase("teacher", ("train", "teacher.json"), 1)
COST = Phase("cost", ("dctkd cost",), 1)
STUDENTS = Phase("students", ("train", "metrics.json"), 2)
PUBLISHING = Phase("publishing", ("train", "metrics.json"), 2, at_result=True)
OVERLAP = Phase("overlap", ("dctkd overlap",), 3)
SPEED = Phase("speed", ("dctkd speed",), 1)
TABLES = Phase("tables", ("dctkd report",), 4)
PHASES = (PACKING, TEACHER, STUDENTS, COST, OVERLAP, SPEED, TABLES)
ROUND = (
    *(PACKING, PACKING, TEACHER, COST, TEACHER),
    *(STUDENTS,) * 4,
    *(PUBLISHING, STUDENTS, STUDENTS, PUBLISHING, OVERLAP, OVERLAP, SPEED, TABLES, TABLES),
)


def _longest_delay_s(phase: Phase, durations_s: Mapping[str, float]) -> float:
    return PUBLISHING_S if phase.at_result else min(durations_s.get(phase.name, 0.0), LONGEST_DELAY_S)


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return the Markdown table: kills by phase and kind."""
    lines = [
        "| phase | job | snakemake | both | SIGKILL | SIGTERM | SIGINT | orphans | longest stop (s) |",
        "|---" * 9 + "|",
    ]
    names = list(dict.fromkeys(outcome.kill.phase.name for outcome in outcomes))
    for name in [*names, "all"]:
        some = [outcome for outcome in outcomes if name in (outcome.kill.phase.name, "all")]
        counts = [sum(outcome.kill.target == target for outcome in some) for target in TARGETS]
        counts += [sum(outcome.kill.number == number for outcome in some) for number in SIGNALS]
        counts.append(sum(len(outcome.orphans) for outcome in some))
        longest_s = max(outcome.seconds for outcome in some)
        lines.append(f"| {name} | {' | '.join(map(str, counts))} | {longest_s:.0f} |")
    return "\n".join(lines)


def say(line: str) -> None:
    """Write a line at once: a campaign takes long."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def run_round(folder: Path, arguments: Sequence[str], planned: Sequence[Kill]) -> Campaign:
    """Carry out kills in a fresh folder, then run the command to its end."""
    campaign = Campaign(folder, arguments)
    for kill in planned:
        outcome = campaign.strike(kill)
        what = f"{outcome.kill.phase.name}: status {outcome.status}, {outcome.seconds:.1f} s" if outcome else "too late"
        say(f"{kill.phase.name:<10} {kill.number.name:<7} at {kill.target:<9} +{kill.delay_s:5.1f} s: {what}")
    if (status := campaign.finish()) != 0:
        raise SystemExit(f"{folder}: the last run ended with status {status}; see snakemake.log")
    return campaign


def main() -> None:
    """Run an undisturbed round and disturbed ones; compare; write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=REPOSITORY / "config/demo.yaml")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, help="file whose part between the markers becomes the table")
    options = parser.parse_args()
    arguments = ["--configfile", str(options.config.resolve())]
    place = Path(tempfile.mkdtemp(prefix="dctkd-faults-")).resolve()
    reference = Campaign(place / "undisturbed", arguments)
    reference.folder.mkdir()
    if reference.finish() != 0:
        raise SystemExit(f"{reference.folder}: the undisturbed run failed; see snakemake.log")
    expected, outcomes = reference.bits(), []
    for number in range(options.rounds):
        folder = place / f"round{number}"
        folder.mkdir()
        campaign = run_round(folder, arguments, kills(ROUND, reference.durations_s, options.seed + number))
        outcomes += campaign.outcomes
        got = campaign.bits()
        differing = sorted(name for name in expected.keys() | got.keys() if expected.get(name) != got.get(name))
        if differing:
            raise SystemExit(f"{folder}: {len(differing)} of {len(expected)} files differ: {', '.join(differing[:5])}")
        say(f"round {number}: {len(got)} files, all bits as undisturbed")
        shutil.rmtree(folder)
    text = f"{len(outcomes)} kills in {options.rounds} rounds; {len(expected)} files compared in each, all equal.\n\n"
    text += summary(outcomes)
    say(text)
    if options.write:
        before, _, rest = options.write.read_text().partition("<!-- table -->\n")
        _, _, after = rest.partition("<!-- end of table -->")
        options.write.write_text(f"{before}<!-- table -->\n{text}\n<!-- end of table -->{after}")
    if any(outcome.orphans for outcome in outcomes):
        raise SystemExit("some jobs outlived their Snakemake")
    shutil.rmtree(place)


if __name__ == "__main__":
    main()
