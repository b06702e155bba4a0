"""What is said of the effects of a finding, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from dctkd.report.audit.effects import Effect
from dctkd.report.statistics import Summary

NOT_MEASURED = "Not measured by training"


def verdict(effects: Sequence[Effect], *, not_measured: str = "") -> str:
    """Return one sentence: whether any effect is shown, and how large the first or the clearest one is.

    Args:
        effects: Those of a finding's contrasts; the first is the main one.
        not_measured: Why there are none.
    """
    known = [effect for effect in effects if effect.difference is not None]
    if not known:
        return f"{NOT_MEASURED}: {not_measured}." if not_measured else _nothing_to_compare(effects)
    return f"{_about(known)}{_failed_elsewhere(effects)}."


def _about(known: Sequence[Effect]) -> str:
    if all(_is_nil(effect) for effect in known):
        others = _others(len(known) - 1)
        return f"No effect at all: {known[0].label}: equal accuracy in all {_difference(known[0]).n} runs{others}"
    tested = [effect for effect in known if effect.p is not None]
    if not tested:
        return f"No test is possible: {_told(known[0])}"
    shown = [effect for effect in tested if effect.is_shown]
    if not shown:
        return f"No effect is shown: {_told(tested[0])}{_others(len(tested) - 1)}"
    largest = max(shown, key=lambda effect: abs(_difference(effect).mean))
    if len(known) == 1:
        return f"An effect is shown: {_told(largest)}"
    main = "" if tested[0].is_shown else f"; none in the first, {_told(tested[0])}"
    return f"An effect is shown in {len(shown)} of {len(known)} comparisons, the largest in {_told(largest)}{main}"


def _failed_elsewhere(effects: Sequence[Effect]) -> str:
    """Say which comparisons lack runs, since that is a result too."""
    told = [f"{effect.label}: {_failures(effect)}" for effect in effects if any(effect.failed)]
    return f"; runs without accuracy, {'; '.join(told)}" if told else ""


def _nothing_to_compare(effects: Sequence[Effect]) -> str:
    told = [f"{effect.label}: {_failures(effect)}" for effect in effects if any(effect.failed)]
    return f"No comparison is possible: {'; '.join(told)}." if told else "No run is finished."


def _failures(effect: Effect) -> str:
    parts = [f"of {side} {failed.rstrip('.')}" for side, failed in zip("ab", effect.failed, strict=True) if failed]
    return ", ".join(parts).replace("div", "diverged").replace("oom", "ran out of memory")


def _others(count: int) -> str:
    if count == 0:
        return ""
    return ", nor in the other comparison" if count == 1 else f", nor in the other {count} comparisons"


def _is_nil(effect: Effect) -> bool:
    difference = _difference(effect)
    return difference.mean == 0 and difference.ci_low == difference.ci_high == 0


def _told(effect: Effect) -> str:
    difference = _difference(effect)
    interval = "no interval" if difference.ci_low is None else interval_text(difference)
    return f"{effect.label}: {difference.mean:+.2f} points ({interval}, n = {difference.n})"


def interval_text(difference: Summary) -> str:
    """Return the 95 % interval in words."""
    return f"95 % interval {difference.ci_low:+.2f} to {difference.ci_high:+.2f}"


def _difference(effect: Effect) -> Summary:
    assert effect.difference is not None
    return effect.difference
