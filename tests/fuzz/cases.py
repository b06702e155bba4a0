"""How much each target is tried, and the kinds of values and texts that files can hold."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

NUM_CASES = {
    "experiment mutations": 2500,
    "experiment text": 1000,
    "experiment bytes": 500,
    "settings": 500,
    "list lines": 1500,
    "list bytes": 500,
    "manifests": 2000,
    "annotations": 500,
    "plans": 1000,
    "edges": 800,
    "metrics": 700,
}
"""Cases per target; together at least 10,000 (test_total)."""

TEXT = st.text(st.characters(codec=None), max_size=12) | st.sampled_from(
    [
        "",
        "..",
        "/",
        "a/b",
        "a__b",
        "x" * 300,
        "\0",
        "\ud800",
        "\u202e",
        "1e9",
        "null",
        "$(x)",
        "{x}",
        "-1",
        "auto",
        "kd",
    ]
)
NUMBERS = (
    st.integers(-3, 12) | st.integers() | st.floats() | st.sampled_from([2**31, 2**63, 10**400, float("nan"), 1e308])
)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXT | st.dates()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6
)
JSON_SCALARS = st.none() | st.booleans() | NUMBERS | TEXT
JSON_VALUES = st.recursive(
    JSON_SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6
)


def tries(target):
    """Return the settings of a target: always the same cases, as many as the table says, nothing left on disk."""
    return settings(
        max_examples=NUM_CASES[target],
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


def places(value, path=()):
    """Yield the path of everything in nested mappings and lists, but for the whole."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def mutate(draw, raw, values):
    """Change a few places of nested mappings and lists: another value, no key, another key, the same key elsewhere."""
    for _ in range(draw(st.integers(1, 3))):
        *parents, last = draw(st.sampled_from(list(places(raw)) or [("x",)]))
        holder = raw
        for key in parents:
            holder = holder[key]
        how = draw(st.sampled_from(["replace", "replace", "replace", "drop", "rename", "copy"]))
        if how == "replace" or not isinstance(holder, dict) or last not in holder:
            holder[last] = draw(values)
        elif how == "drop":
            del holder[last]
        elif how == "rename":
            holder[draw(TEXT)] = holder.pop(last)
        else:
            holder[draw(TEXT)] = holder[last]
    return raw
