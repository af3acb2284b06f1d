import json
import os
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from v2w_gym.evaluation.checks.parity.cases import CASES
from v2w_gym.evaluation.checks.parity.run import run_case, run_parity
from v2w_gym.world_models.files import sha256_of


@pytest.mark.parametrize("case", ["schedule", "resampler", "unet_csgo"])
def test_the_cases_kept_here_pass(golden, case):
    result = run_case(golden / f"{case}.json")
    assert result.passed, result
    assert result.compared > 0 and str(result).split()[:2] == [case, "pass"]


@pytest.mark.parametrize("case", CASES)
def test_every_case_passes(case):
    if "V2W_PARITY_DIR" not in os.environ:
        pytest.skip("the golden cases need V2W_PARITY_DIR")
    result = run_case(next(Path(os.environ["V2W_PARITY_DIR"]).rglob(f"{case}.json")))
    assert result.passed, result


@pytest.fixture
def copied(golden, tmp_path):
    """A case of our own to damage: `change(name -> tensor)` and `settings` go into it."""

    def make(name, change=None, **settings):
        tensors = load_file(golden / f"{name}.safetensors")
        for key, value in (change or {}).items():
            tensors[key] = value(tensors[key])
        save_file(tensors, tmp_path / f"{name}.safetensors")
        info = json.loads((golden / f"{name}.json").read_text()) | settings
        info["sha256"] = sha256_of(tmp_path / f"{name}.safetensors")
        (tmp_path / f"{name}.json").write_text(json.dumps(info))
        return tmp_path / f"{name}.json"

    return make


def test_another_output_fails(copied):
    result = run_case(copied("unet_csgo", {"out/w16/y": lambda y: y * (1 + 1e-4)}))
    assert not result.passed and result.used > 1 and result.worst == "w16/y"
    assert "FAIL" in str(result)


@pytest.mark.parametrize("window", ["w4_masked", "w16"])
def test_a_golden_output_that_is_no_number_fails(copied, window):
    result = run_case(copied("unet_csgo", {f"out/{window}/y": lambda y: y * float("nan")}))
    assert not result.passed and result.worst == f"{window}/y"


def test_another_weight_fails(copied):
    name = "state/middle_block.2.transformer_blocks.0.attn1.to_q.weight"
    assert not run_case(copied("unet_csgo", {name: lambda w: w * 1.01})).passed


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"case": "unet_csgp"}, "did you mean 'unet_csgo'"),
        ({"windows": {}}, "expected tensors to compare, found none"),
        ({"windows": {"w9": {}}}, "expected tensor 'in/w9/x'"),
        ({"config": {}}, "KeyError"),
    ],
)
def test_what_cannot_be_run_says_why(copied, settings, problem):
    result = run_case(copied("unet_csgo", **settings))
    assert not result.passed
    assert problem in result.problem or problem in str(result)


def test_an_unknown_choice_of_the_reference_is_not_guessed(copied, golden):
    config = json.loads((golden / "unet_csgo.json").read_text())["config"]
    result = run_case(copied("unet_csgo", config={**config, "use_relative_position": True}))
    assert "this network has no such choice" in result.problem


def test_one_case_that_cannot_be_run_does_not_stop_the_others(copied, tmp_path):
    copied("resampler")
    (tmp_path / "broken.json").write_text("{")
    results = {result.case: result.passed for result in run_parity(tmp_path)}
    assert results == {"broken": False, "resampler": True}


def test_cases_in_folders_of_their_own_are_found(copied, tmp_path):
    moved = copied("resampler").rename
    (tmp_path / "own").mkdir()
    moved(tmp_path / "own" / "resampler.json")
    (tmp_path / "resampler.safetensors").rename(tmp_path / "own" / "resampler.safetensors")
    assert [result.case for result in run_parity(tmp_path)] == ["resampler"]
    assert [result.case for result in run_parity(tmp_path / "own")] == ["resampler"]


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected golden cases"):
        run_parity(tmp_path)
