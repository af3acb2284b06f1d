"""Imports point one way: from commands to evaluation, environment, world models, settings."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "v2w_gym"
PUBLIC_FACE = ROOT / PACKAGE / "__init__.py"
CORE = "core"
"""The environments: what lies in `v2w_gym/` itself."""
WORLD_MODEL_TOOLS = (
    "world_models.data",
    "world_models.checkpoint",
    "world_models.device",
    "world_models.downloads",
    "world_models.files",
    "world_models.weight_files",
    "world_models.optimiser",
    "world_models.schedules",
    "world_models.run_folder",
)
"""What policies, which stand beside world models, may use of them: reading data and training."""
ALLOWED = {
    "configs": (),
    "world_models": ("configs",),
    "policies": ("configs", *WORLD_MODEL_TOOLS),
    CORE: ("configs", "world_models"),
    "evaluation": ("configs", "world_models", "policies", CORE),
    "scripts": ("configs", "world_models", "policies", CORE, "evaluation"),
}


def files_of(folder: str) -> list[Path]:
    """Return the source files of a folder; links in `v2w_gym/` lead to the other folders.

    `v2w_gym/__init__.py` is left out: it names what is public in every folder, for type checkers.
    """
    root = ROOT / (PACKAGE if folder == CORE else folder)
    inside = root.glob("*.py"), *(d.rglob("*.py") for d in root.iterdir() if not d.is_symlink())
    return sorted(file for files in inside for file in files if file != PUBLIC_FACE)


def imported_names(source: str) -> Iterator[str]:
    """Yield the dotted name of everything imported anywhere in a file, inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: write imports with the package's name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def forbidden_imports(folder: str, source: str) -> list[str]:
    """Return what a file of `folder` must not import: what lies above, or without the package."""
    allowed = tuple(f"{name}." for name in (folder, *ALLOWED[folder]))
    return [
        name
        for name in imported_names(source)
        if name.partition(".")[0] in ALLOWED
        or (name.partition(".")[0] == PACKAGE and not _place(name).startswith(allowed))
    ]


def _place(name: str) -> str:
    """Return the folder and module of an imported name: `world_models.base.`, `core.env.`."""
    inside = name.removeprefix(PACKAGE).removeprefix(".")
    return f"{inside}." if inside.partition(".")[0] in ALLOWED else f"{CORE}.{inside}."


@pytest.mark.parametrize("folder", ALLOWED)
def test_a_folder_imports_only_what_lies_below_it(folder: str) -> None:
    files = files_of(folder)
    assert files
    wrong = {
        str(file.relative_to(ROOT)): names
        for file in files
        if (names := forbidden_imports(folder, file.read_text(encoding="utf-8")))
    }
    assert not wrong


@pytest.mark.parametrize(
    ("folder", "line", "found"),
    [
        ("configs", "import v2w_gym.world_models.base", ["v2w_gym.world_models.base"]),
        ("world_models", "def f():\n    from v2w_gym import env", ["v2w_gym.env"]),
        ("policies", "from v2w_gym.world_models import loading", ["v2w_gym.world_models.loading"]),
        ("policies", "from v2w_gym.world_models.data.clips.episode_set import Clip", []),
        ("policies", "from v2w_gym.world_models import checkpoint", []),
        ("evaluation", "import numpy, v2w_gym, v2w_gym.scripts.cli", ["v2w_gym.scripts.cli"]),
        ("evaluation", "from configs.loader import load_config", ["configs.loader.load_config"]),
        ("world_models", "import configs_of_somebody_else", []),
    ],
)
def test_the_check_finds_a_wrong_import(folder: str, line: str, found: list[str]) -> None:
    assert forbidden_imports(folder, line) == found


def test_every_folder_is_a_part_of_the_one_package() -> None:
    links = {path.name for path in (ROOT / PACKAGE).iterdir() if path.is_symlink()}
    assert links == set(ALLOWED) - {CORE}
    assert all((ROOT / PACKAGE / name).resolve() == ROOT / name for name in links)


@pytest.mark.parametrize(
    "code", ["import v2w_gym", "from v2w_gym.scripts.cli import main; main(['--help'])"]
)
def test_light_entry_points_do_not_import_heavy_libraries(code: str) -> None:
    heavy = "sorted({'torch', 'pandas', 'matplotlib', 'scipy', 'mujoco'} & set(sys.modules))"
    script = f"import sys; {code}; print({heavy})"
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines()[-1] == "[]"


def test_only_the_loader_imports_tensorflow() -> None:
    """Imported any other way, it shares symbols with MuJoCo's renderer, and the process crashes."""
    loader = {"world_models/data/tensorflow.py"}
    after_it = {
        "policies/rt1/action_bounds.py",
        "policies/rt1/saved_variables.py",
        "tests/saved_models.py",
        "tests/saved_policies.py",
    }
    direct = re.compile(r"""^ *(import|from) tensorflow|importorskip\(["']tensorflow""", re.M)
    folders = ["tests", *ALLOWED]
    files = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    found = {str(path.relative_to(ROOT)) for path in files if direct.search(path.read_text())}
    assert found == loader | after_it
