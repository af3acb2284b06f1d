"""The installed package has all of its files, and works outside the repository."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import v2w_gym

ROOT = Path(__file__).parents[1]
FOLDERS = ("configs", "evaluation", "policies", "scripts", "v2w_gym", "world_models")
FILES = ("CHANGELOG.md", "CITATION.cff", "LICENSE", "MANIFEST.in", "README.md")
SETTINGS = ("constraints.txt", "pyproject.toml", "setup.cfg")
BACKEND = "import sys; from setuptools import build_meta; build_meta.{}(sys.argv[1])"
USE = """
import importlib.util, pathlib
import configs, evaluation, policies, scripts, world_models  # those of the user
assert {configs.MINE, evaluation.MINE, policies.MINE, scripts.MINE, world_models.MINE} == {True}
import gymnasium, v2w_gym
assert pathlib.Path(v2w_gym.__file__).is_relative_to(pathlib.Path("../site").resolve())
env = gymnasium.make("Vid2World-RT1-v0", start=0)
env.reset(seed=0)
for _ in range(2):
    env.step(env.action_space.sample())
judge, trials = v2w_gym.load_judge(None, env.unwrapped.robot), v2w_gym.load_trials()
assert judge and len(trials)
"""


def run(*words: object, **kwargs: object) -> str:
    """Run a command away from the repository and what is installed of it; return its output."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment.update(OMP_NUM_THREADS="1", **kwargs.pop("env", {}))
    done = subprocess.run(
        [*map(str, words)], env=environment, capture_output=True, text=True, timeout=300, **kwargs
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy what a build needs, so that nothing is built in the repository."""
    source = tmp_path_factory.mktemp("source")
    for name in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
    for name in (*FILES, *SETTINGS):
        shutil.copy(ROOT / name, source / name)
    return source


@pytest.fixture(scope="module")
def site(source: Path) -> Path:
    """Install the wheel that is built from the unpacked source distribution."""
    folder = source.parent / f"{source.name}-built"
    run(sys.executable, "-c", BACKEND.format("build_sdist"), folder, cwd=source)
    [archive] = folder.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    [unpacked] = folder.glob("v2w_gym-*/")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, unpacked)
    [wheel] = folder.glob("*.whl")
    run(*pip, "install", "--no-deps", "--no-compile", "--target", folder / "site", wheel)
    return folder / "site"


@pytest.fixture
def project(site: Path) -> Path:
    """Make a user's project whose folders have the names of folders of the repository."""
    project = site.parent / "project"
    for name in set(FOLDERS) - {"v2w_gym"}:
        (project / name).mkdir(parents=True, exist_ok=True)
        (project / name / "__init__.py").write_text("MINE = True\n")
    return project


def test_one_package_and_nothing_else_is_installed(site: Path) -> None:
    assert sorted(path.name for path in site.iterdir()) == [
        "bin",
        "v2w_gym",
        f"v2w_gym-{v2w_gym.__version__}.dist-info",
    ]
    assert not any(path.is_symlink() for path in site.rglob("*"))


def test_every_file_of_the_package_is_installed(site: Path) -> None:
    inside = [(ROOT / name, "" if name == "v2w_gym" else name) for name in FOLDERS]
    expected = {
        Path(place, path.relative_to(folder))
        for folder, place in inside
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".pyc", ".sh") and path.name != "README.md"
    }
    package = site / "v2w_gym"
    assert expected == {p.relative_to(package) for p in package.rglob("*") if p.is_file()}


def test_the_metadata_says_what_it_is(site: Path) -> None:
    [info] = site.glob("*.dist-info")
    text = (info / "METADATA").read_text(encoding="utf-8")
    for line in ("Author: The v2w-gym authors", "License-Expression: Apache-2.0"):
        assert f"\n{line}\n" in text
    assert (info / "licenses" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert f"\nversion: {v2w_gym.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## [{v2w_gym.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_it_works_in_a_project_with_folders_of_the_same_names(site: Path, project: Path) -> None:
    run(sys.executable, "-c", USE, cwd=project, env={"PYTHONPATH": str(site)})


def test_its_command_works(site: Path, project: Path) -> None:
    version = run(site / "bin" / "v2w", "--version", cwd=project, env={"PYTHONPATH": str(site)})
    assert version == f"v2w-gym {v2w_gym.__version__}\n"


def test_an_editable_install_offers_one_package(source: Path, tmp_path: Path) -> None:
    run(sys.executable, "-c", BACKEND.format("build_editable"), tmp_path, cwd=source)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "site")
    names = {name.partition(".")[0] for name in FOLDERS}
    code = (
        f"import sys, site, importlib.util; site.addsitedir({str(tmp_path / 'site')!r}); "
        f"print([n for n in {sorted(names)} if importlib.util.find_spec(n)]); "
        "import v2w_gym.configs.names; print(v2w_gym.configs.names.__file__)"
    )
    found, file = run(sys.executable, "-S", "-c", code, cwd=tmp_path).splitlines()
    assert found == "['v2w_gym']"
    assert file == str(source / "v2w_gym" / "configs" / "names.py")


def test_a_copy_whose_links_became_text_says_what_to_do(source: Path, tmp_path: Path) -> None:
    shutil.copytree(source / "v2w_gym", tmp_path / "v2w_gym", symlinks=True)
    for link in (tmp_path / "v2w_gym").iterdir():
        if link.is_symlink():
            target = link.readlink()
            link.unlink()
            link.write_text(str(target))
    done = subprocess.run(
        [sys.executable, "-c", "import v2w_gym"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )
    line = done.stderr.splitlines()[-1]
    assert line.startswith("ImportError: expected a folder or a symbolic link at ")
    assert "git clone -c core.symlinks=true" in line
