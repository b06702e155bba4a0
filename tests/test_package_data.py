"""The package is whole where it is installed from a wheel too."""

import fnmatch
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def test_every_file_that_is_no_module_is_named_as_data_of_its_package():
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    patterns = [f"{package.replace('.', '/')}/{name}" for package, names in settings.items() for name in names]
    files = [path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "dctkd").rglob("*") if path.is_file()]
    data = [name for name in files if not name.endswith((".py", ".pyc"))]
    assert len(data) >= 5
    assert [name for name in data if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)] == []
