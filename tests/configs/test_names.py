"""Names that every table and screen can show."""

import pytest

from v2w_gym.configs.names import check_file_name, check_name

LEGAL = [
    "null",
    "nan",
    "None",
    "NA",
    "a#b",
    "#a",
    "a,b",
    'say "x"',
    "it's",
    "010",
    "é 政策",
    "-",
    "x" * 100,
]
WRONG = [
    "",
    " ",
    "a ",
    " a",
    "a\nb",
    "a\tb",
    "a\0b",
    "a\x1b[31mb",
    "a\u202eb",
    "a\u200bb",
    "a\u2028b",
]


@pytest.mark.parametrize("name", LEGAL)
def test_what_can_be_shown_is_a_name(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", [*WRONG, "x" * 101])
def test_what_cannot_be_shown_is_refused_in_a_printable_line(name: str) -> None:
    with pytest.raises(ValueError, match="expected a name of 1 to 100 visible") as refused:
        check_name(name)
    assert str(refused.value).isprintable()
    with pytest.raises(ValueError):
        check_file_name(name)


@pytest.mark.parametrize("name", ["..", "../../evil", "a/b", "a\\b", ".hidden"])
def test_a_file_name_stays_in_its_folder(name: str) -> None:
    assert check_name(name) == name
    with pytest.raises(ValueError, match="expected a file name"):
        check_file_name(name)


def test_a_file_name_may_have_points_and_dashes() -> None:
    assert check_file_name("rt1-15.v2 (a)") == "rt1-15.v2 (a)"
