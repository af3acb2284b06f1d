"""Untrusted text is made safe to print."""

import numpy as np
import pytest

from v2w_gym.configs.text import brief, printable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("close the drawer", "close the drawer"),
        ("schließe die Schublade, 引き出し", "schließe die Schublade, 引き出し"),
        ("\x1b[31;1mred\x1b[0m alert", "red alert"),
        ("\x1b]0;a title\x07text \x1b]8;;http://x\x1b\\link", "text link"),
        ("one\r\ntwo\tthree", "one  two three"),
        ("nul\x00 bell\x07 back\x08 \x9bc1", "nul bell back c1"),
        ("\u202egnp.exe\u200b", "gnp.exe"),
        ("\ud800half", "half"),
        ("", ""),
    ],
)
def test_what_is_left_can_be_printed_in_one_line(text: str, expected: str) -> None:
    assert printable(text) == expected
    assert expected.isprintable()


def test_long_text_is_cut() -> None:
    assert printable("abc", 3) == "abc"
    assert printable("abcd", 3) == "abc..."
    assert printable("x" * 10**7, 10) == "x" * 10 + "..."
    assert printable("\x00" * 50 + "late", 10) == "..."  # what is far behind is not looked at


def test_a_value_is_shown_in_one_short_line() -> None:
    assert brief({"a": [1, None]}) == "{'a': [1, None]}"
    assert brief("two\nlines \x1b[31m") == r"'two\nlines \x1b[31m'"
    assert brief(list(range(10**6))) == "[0, 1, 2, 3, 4, 5, ...]"
    deep: object = 1
    for _ in range(500):
        deep = [deep]
    for value in (deep, np.zeros((900, 900)), {"key" * 10**6: "value" * 10**6}, b"\x00" * 10**6):
        assert len(brief(value, 200)) <= 203
        assert brief(value, 200).isprintable()
