"""The public names of the package, and the error of a wrong name."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

import v2w_gym

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", v2w_gym.__all__)
def test_a_public_name_is_what_its_module_defines(name: str) -> None:
    assert getattr(v2w_gym, name) is getattr(import_module(v2w_gym.PUBLIC[name]), name)
    assert name in dir(v2w_gym)


def test_type_checkers_are_shown_the_same_names() -> None:
    tree = ast.parse((ROOT / "v2w_gym" / "__init__.py").read_text(encoding="utf-8"))
    [block] = [
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    shown = {
        alias.asname: line.module
        for line in block.body
        if isinstance(line, ast.ImportFrom)
        for alias in line.names
        if alias.asname == alias.name
    }
    assert shown == v2w_gym.PUBLIC


def test_a_wrong_name_is_an_error_that_suggests_a_right_one() -> None:
    with pytest.raises(AttributeError, match="v2w_gym has no 'ranck'; did you mean 'rank'"):
        _ = v2w_gym.ranck
    assert not hasattr(v2w_gym, "__wrapped__")
