"""Imports point one way, and what must be light is light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dctkd"

# Part of the package -> parts it may import. A part is a folder or a module of the package.
ALLOWED = {
    "errors": set(),
    "large_imports": set(),
    "archives": {"errors"},
    "provenance": {"", "engine.device"},
    "yaml_text": {"errors"},
    "names": {"errors"},
    "file_systems": set(),
    "late_files": {"errors", "file_systems"},
    "validation": {"errors"},
    "strict": {"errors"},
    "recipe": {"strict"},
    "contrasts": {"names", "recipe", "strict"},
    "config": {"contrasts", "errors", "names", "recipe", "strict", "validation", "yaml_text"},
    "identity": {"config", "errors", "provenance", "data", "methods", "recipe", "strict"},
    "packs": set(),
    "places": set(),
    "plan": {"config", "errors", "identity", "metrics", "packs", "provenance"},
    "plan_file": {"config", "errors", "identity", "late_files", "packs", "plan"},
    "site": {"errors", "yaml_text"},
    "demand": {"engine.device", "plan", "provenance", "recipe"},
    "batch_system": set(),
    "locks": {"errors"},
    "store": {"archives", "data.cache", "errors", "late_files", "locks", "metrics", "plan", "provenance"},
    "store_commands": {"store"},
    "audit_commands": {"errors", "provenance", "report", "targets"},
    "status": {"plan", "store"},
    "workflow": {
        "config", "demand", "engine.build", "engine.device", "errors", "late_files", "places", "plan", "plan_file",
        "provenance", "site", "yaml_text",
    },
    "snakemake_locks": {"locks"},
    "functional": set(),
    "weights": {"errors", "provenance"},
    "timm_networks": {"errors", "weights"},
    "models": {"errors", "timm_networks", "weights"},
    "freezing": {"errors", "models", "timm_networks", "weights"},
    "methods": {"errors", "functional", "models", "provenance"},
    "metrics": {"errors", "functional", "models", "weights", "methods"},
    "data": {
        "archives", "config", "errors", "late_files", "locks", "provenance", "strict", "validation", "worker_pool",
    },
    "worker_pool": {"errors"},
    "report": {
        "config", "contrasts", "data.cache", "errors", "late_files", "metrics", "names", "plan", "plan_file",
        "provenance", "store", "strict", "validation", "worker_pool", "yaml_text",
    },
    "cgroups": set(),
    "engine": {
        "cgroups", "config", "data", "demand", "errors", "freezing", "functional", "identity", "large_imports",
        "late_files", "locks", "methods", "metrics", "models", "plan", "plan_file", "provenance", "recipe", "store",
        "weights",
    },
    "doctor": {
        "cgroups", "data", "engine.census", "engine.device", "engine.packing", "errors", "file_systems", "freezing",
        "models", "plan", "plan_file", "provenance", "snakemake_locks", "status", "store", "weights",
    },
    "cli": {
        "audit_commands", "config", "data", "doctor", "engine", "errors", "exits", "large_imports", "methods", "places",
        "plan", "plan_file", "report", "site", "status", "store", "store_commands", "targets", "workflow", "yaml_text",
    },
    "__main__": {"cli"},
    "targets": {"errors"},
    "exits": {"batch_system", "errors", "engine.interrupt", "engine.job"},
}  # fmt: skip


def part_of(module):
    return module.removeprefix("dctkd").removeprefix(".").split(".")[0]


def is_module(name):
    return (PACKAGE / name).exists() or (PACKAGE / f"{name}.py").exists()


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "dctkd":
            if node.module == "dctkd":
                yield from (
                    alias.name if (PACKAGE / alias.name).exists() or (PACKAGE / f"{alias.name}.py").exists() else ""
                    for alias in node.names
                )
            else:
                yield node.module.removeprefix("dctkd.")
        elif isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("dctkd.") for alias in node.names if alias.name.startswith("dctkd."))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    relative = path.relative_to(PACKAGE)
    part = relative.parts[0].removesuffix(".py")
    if part == "__init__":
        assert list(imports_of(path)) == []
        return
    allowed = ALLOWED[part]
    wrong = [name for name in imports_of(path) if part_of(name) not in {part, *allowed} and name not in allowed]
    assert wrong == []


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("dctkd.config", {"torch", "timm", "numpy", "pandas", "jsonschema"}),
        ("dctkd.plan", {"torch", "timm", "numpy", "pandas"}),
        ("dctkd.workflow", {"torch", "timm", "numpy", "pandas"}),
        ("dctkd.store", {"torch", "timm", "numpy", "pandas"}),
        ("dctkd.methods", {"torch", "timm"}),
        ("dctkd.data", {"torch", "PIL", "numpy"}),
        ("dctkd.report", {"torch", "pandas", "seaborn"}),
        ("dctkd.engine.job", {"torch", "timm", "pandas"}),
        ("dctkd.doctor.examine", {"torch", "timm", "numpy", "pandas", "yaml", "pydantic"}),
        ("dctkd.doctor.environment", {"torch", "timm", "numpy", "pandas", "yaml", "pydantic"}),
        ("dctkd.doctor.experiment", {"torch", "timm", "pandas"}),
        ("dctkd.doctor.leftovers", {"torch", "timm", "pandas"}),
        ("dctkd.cli", {"torch", "timm", "numpy", "pandas", "yaml", "pydantic"}),
    ],
)
def test_a_light_module_stays_light(module, heavy):
    code = f"import sys, {module}; print(sorted(set({sorted(heavy)!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
