"""Imports point one way: from commands to evaluation, environment, world models, settings."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "configs": (),
    "world_models": ("configs",),
    "policies": (
        "configs",
        "world_models.data",
        "world_models.checkpoint",
        "world_models.device",
        "world_models.downloads",
        "world_models.weight_files",
        "world_models.optimiser",
        "world_models.run_folder",
        "world_models.training_state",
    ),
    "v2w_gym": ("configs", "world_models"),
    "evaluation": ("configs", "world_models", "policies", "v2w_gym"),
    "scripts": ("configs", "world_models", "policies", "v2w_gym", "evaluation"),
}


def imported_names(source: str) -> Iterator[str]:
    """Yield the dotted name of everything imported anywhere in a file, inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: write imports with the package's name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def forbidden_imports(package: str, source: str) -> list[str]:
    """Return the imports of our own packages that a file of `package` must not have."""
    allowed = (package, *ALLOWED[package])
    return [
        name
        for name in imported_names(source)
        if name.partition(".")[0] in ALLOWED and not f"{name}.".startswith(_prefixes(allowed))
    ]


def _prefixes(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{name}." for name in names)


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_imports_only_what_lies_below_it(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    wrong = {
        str(file.relative_to(ROOT)): names
        for file in files
        if (names := forbidden_imports(package, file.read_text(encoding="utf-8")))
    }
    assert not wrong


@pytest.mark.parametrize(
    ("package", "line", "found"),
    [
        ("configs", "import world_models.base", ["world_models.base"]),
        ("world_models", "def f():\n    from v2w_gym import env", ["v2w_gym.env"]),
        ("policies", "from world_models import loading", ["world_models.loading"]),
        ("policies", "from world_models.data.clips import Clip", []),
        ("policies", "from world_models import checkpoint", []),
        ("evaluation", "import numpy, v2w_gym, scripts.cli", ["scripts.cli"]),
        ("world_models", "import configs_of_somebody_else", []),
    ],
)
def test_the_check_finds_a_wrong_import(package: str, line: str, found: list[str]) -> None:
    assert forbidden_imports(package, line) == found


@pytest.mark.parametrize(
    "code", ["import v2w_gym", "from scripts.cli import main; main(['--help'])"]
)
def test_light_entry_points_do_not_import_heavy_libraries(code: str) -> None:
    heavy = "sorted({'torch', 'pandas', 'matplotlib', 'scipy', 'mujoco'} & set(sys.modules))"
    script = f"import sys; {code}; print({heavy})"
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines()[-1] == "[]"
