"""The page is complete, needs no network, escapes its inputs, and opens in a browser."""

import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from v2w_gym.evaluation.compare.comparison import compare
from v2w_gym.evaluation.records.video import write_video
from v2w_gym.evaluation.report.gallery import draw_strip, make_gallery
from v2w_gym.evaluation.report.report import write_report

EVIL = "<script>document.title='owned'</script>"
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    success = [True, True, False, None, False, False, False, True]
    return pd.DataFrame(
        {
            "policy": ["good"] * 4 + [EVIL] * 4,
            "task": "close_drawer",
            "start": [0, 1, 2, 3] * 2,
            "start_seed": [0, 1, 2, 3] * 2,
            "seed": 0,
            "success": pd.Series(success, dtype=object),
            "steps": 9,
            "score": 0.5,
            "judge": "judge",
            "policy_fingerprint": ["g"] * 4 + ["e"] * 4,
            "model_fingerprint": "m",
            "video": [f"videos/{i} 0.mp4" for i in range(8)],
        }
    )


@pytest.fixture(scope="module")
def real(rows: pd.DataFrame) -> pd.DataFrame:
    outcome = [True, False, False, True, False, True, False, False]
    return rows[["policy", "task", "start", "start_seed"]].assign(success=outcome, steps=9)


def write(folder: Path, rows: pd.DataFrame, real: pd.DataFrame) -> Path:
    (folder / "videos").mkdir()
    frames = np.random.default_rng(0).integers(0, 255, (10, 16, 16, 3), np.uint8)
    for video in rows["video"][:6]:
        write_video(folder / video, frames, 3)
    (folder / "run.json").write_text(json.dumps({"model": "fingerprint-of-the-model"}))
    judge = {"kind": "judge", "held_out": {"agreement": 0.98765, "range": [0.9, 1.0]}}
    card = {"sha256": "c0ffee", "note": EVIL}
    return write_report(folder, compare(rows, real), rows, real, judge, card)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, rows: pd.DataFrame, real: pd.DataFrame) -> Path:
    return write(tmp_path_factory.mktemp("run"), rows, real)


@pytest.fixture(scope="module")
def beside(
    tmp_path_factory: pytest.TempPathFactory, rows: pd.DataFrame, real: pd.DataFrame
) -> Path:
    """A policy with trials, and one without."""
    return write(tmp_path_factory.mktemp("run"), rows, real[real["policy"] == "good"])


@pytest.fixture(scope="module")
def untried(
    tmp_path_factory: pytest.TempPathFactory, rows: pd.DataFrame, real: pd.DataFrame
) -> Path:
    """Two policies without trials."""
    return write(tmp_path_factory.mktemp("run"), rows, real[:0])


def test_the_page_holds_the_numbers(page: Path) -> None:
    html = page.read_text()
    for text in ("0.98765", "c0ffee", "fingerprint-of-the-model", "stand-in robot", "67 %"):
        assert text in html
    assert "Its accuracy on generated frames was not measured" in html
    assert "No real robot was involved" in html
    assert "<b>2 policies.</b>" in html


def test_the_page_is_self_contained(page: Path) -> None:
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page.read_text())
    embedded = [a for a in addresses if a.startswith("data:image/")]
    assert len([a for a in embedded if "png" in a[:20]]) == 2
    linked = set(addresses) - set(embedded)
    assert linked and all((page.parent / a.replace("%20", " ")).is_file() for a in linked)
    assert "http" not in re.sub(r'"data:[^"]*"', "", page.read_text())
    assert sorted(p.name for p in page.parent.iterdir() if p.is_file()) == [
        "report.html",
        "run.json",
        "scatter.png",
        "success_rates.png",
    ]


def test_a_policy_without_trials_has_a_simulated_rate_and_no_real_one(beside: Path) -> None:
    html = beside.read_text()
    row = re.sub(r"<[^>]+>|\s+", " ", html[html.index("<tr><td>&lt;script") :].split("</tr>")[0])
    assert re.search(r"no trials +25 % +5 % to 70 % +4 +0 +not compared", row)
    assert "stand-in robot: not tried" in html and "policies without trials come last" in html
    assert "<b>1 policy compared.</b>" in html


def test_without_any_trials_the_page_speaks_of_simulation_alone(untried: Path) -> None:
    html = untried.read_text()
    assert "Simulated success rates only" in html and "no trials.</p>" in html
    for absent in ("Agreement", "McNemar", "same start", "compared with the", "not tried"):
        assert absent not in html
    assert "<code>v2w trials</code> records trials" in html
    assert not (untried.parent / "scatter.png").exists()


def test_a_scatter_does_not_outlive_its_comparison(
    tmp_path: Path, rows: pd.DataFrame, real: pd.DataFrame
) -> None:
    write(tmp_path, rows, real)
    write_report(tmp_path, compare(rows, real[:0]), rows, real[:0], {}, {})
    assert not (tmp_path / "scatter.png").exists()


@pytest.mark.parametrize("shown", ["page", "beside", "untried"])
def test_tags_are_balanced_and_names_escaped(shown: str, request: pytest.FixtureRequest) -> None:
    page: Path = request.getfixturevalue(shown)

    class Checker(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []

        def handle_starttag(self, tag: str, attrs: object) -> None:
            assert tag != "script"
            if tag not in ("meta", "img", "br"):
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            if tag not in ("p", "li"):
                while self.open[-1] in ("p", "li"):
                    self.open.pop()
            assert self.open.pop() == tag

    checker = Checker()
    checker.feed(page.read_text())
    assert checker.open == []
    assert "&lt;script&gt;" in page.read_text()


def test_the_gallery_shows_contradictions_first(
    tmp_path: Path, rows: pd.DataFrame, real: pd.DataFrame
) -> None:
    strips = make_gallery(tmp_path, compare(rows, real), rows, real)
    shown = {(s.policy, s.success): (s.start, s.real, s.disagrees) for s in strips}
    assert shown == {
        ("good", True): ("1", 0, True),
        ("good", False): ("2", 0, False),
        (EVIL, True): ("3", 0, True),
        (EVIL, False): ("1", 1, True),
    }


def test_a_missing_video_is_reported(page: Path) -> None:
    assert "videos/7%200.mp4 is missing or damaged" in page.read_text()


def test_strips_hold_first_and_last_frame() -> None:
    frames = np.repeat(np.arange(10, dtype=np.uint8) * 25, 200 * 100 * 3).reshape(10, 200, 100, 3)
    strip = np.asarray(Image.open(io.BytesIO(base64.b64decode(draw_strip(frames).split(",")[1]))))
    assert strip.shape == (128, 520, 3)  # 8 x 100 + 7 x 2 columns of 200 rows, shrunk
    assert strip[64, 10, 0] < 5
    assert strip[64, -10, 0] > 220


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium or chrome is installed")
def test_a_browser_shows_the_page(page: Path) -> None:
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    done = subprocess.run(
        [*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    assert "<title>Policies in a world model</title>" in done.stdout
    assert "owned</title>" not in done.stdout
