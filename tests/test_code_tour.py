"""`docs/code_tour.md` is true: a step enters the files that it lists, in order."""

import re
import sys
from functools import cache
from pathlib import Path
from types import FrameType

from v2w_gym.env import Vid2WorldEnv

ROOT = Path(__file__).parents[1]
TOUR = (ROOT / "docs" / "code_tour.md").read_text(encoding="utf-8")
FOLDERS = ("configs/", "evaluation/", "policies/", "scripts/", "v2w_gym/", "world_models/")
SOURCE = re.compile(r"`((?:\w+/)*\w+\.py)`")


def listed_files() -> list[str]:
    """Return the first column of the table of one step."""
    section = TOUR.partition("\n## One step\n")[2].partition("\n## ")[0]
    return re.findall(rf"^\| {SOURCE.pattern} \|", section, re.MULTILINE)


def entered_files(env: Vid2WorldEnv) -> list[str]:
    """Take a step and return our files whose code runs, in the order of first entry."""
    entered: dict[str, None] = {}

    @cache
    def ours(code_file: str) -> str | None:
        file = Path(code_file).resolve()
        name = file.relative_to(ROOT).as_posix() if file.is_relative_to(ROOT) else ""
        return name if name.startswith(FOLDERS) and file.is_file() else None

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and (name := ours(frame.f_code.co_filename)):
            entered[name] = None

    rest = env.robot.make_action()
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        env.step(rest)
    finally:
        sys.setprofile(before)
    return list(entered)


def test_a_step_enters_the_files_of_the_tour_in_their_order() -> None:
    env = Vid2WorldEnv(sampler={"steps": 2})
    env.reset(seed=0)
    env.step(env.robot.make_action())  # what is looked up once is looked up here
    assert entered_files(env) == listed_files()
    assert f"enters these {len(listed_files())} files" in TOUR


def test_every_file_that_the_tour_names_exists() -> None:
    files = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")]
    places = [f"/{file.relative_to(ROOT).as_posix()}" for file in files]
    named = {name for name in SOURCE.findall(TOUR) if not name.startswith("tests/")}
    assert not [name for name in named if not any(place.endswith(f"/{name}") for place in places)]
