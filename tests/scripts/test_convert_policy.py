"""Converting a policy as a user gives the command."""

from pathlib import Path

import pytest

from tests.saved_models import SMALL, rt1_variables, write_saved_model
from v2w_gym.configs.convert import ConvertPolicyConfig
from v2w_gym.policies.instructions import make_table, save_table
from v2w_gym.policies.rt1.convert import convert
from v2w_gym.scripts import cli
from v2w_gym.scripts.convert_policy import summary


@pytest.fixture
def saved_model(tmp_path: Path) -> Path:
    return write_saved_model(tmp_path / "rt1main", rt1_variables(SMALL), step=400120)


def test_the_summary_of_a_converted_policy(saved_model, tmp_path):
    output = tmp_path / "rt1.safetensors"
    lines = summary(convert(ConvertPolicyConfig(str(saved_model), str(output)), SMALL))
    assert lines[0] == f"wrote {output} (0.1 MB) and its card {tmp_path / 'rt1.json'}"
    assert lines[1].endswith(" parameters, training step 400120")
    assert [line.partition(":")[0] for line in lines[2:]] == [
        "  checksums",
        "  names",
        "  bounds",
        "  token order",
        "  it has no instructions yet",
    ]


def test_a_policy_with_instructions_needs_no_table(saved_model, tmp_path):
    table, output = tmp_path / "table.safetensors", tmp_path / "rt1.safetensors"
    save_table(table, make_table(["pick apple"], SMALL.instruction_size), {})
    cfg = ConvertPolicyConfig(str(saved_model), str(output), instructions=str(table))
    assert not any("no instructions" in line for line in summary(convert(cfg, SMALL)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rt1main"], "expected a value for output"),
        (["nowhere", "x.safetensors"], "expected variables/variables.index in the SavedModel"),
        (["rt1main", "x.pt"], "expected output to be a file that ends in .safetensors"),
        (["rt1main", "x.safetensors", "robot=spot"], "spot"),
        (["rt1main", "x.safetensors"], "as RT-1 has, found"),
    ],
)
def test_mistakes_end_in_one_line(saved_model, monkeypatch, capsys, words, message):
    monkeypatch.chdir(saved_model.parent)
    assert cli.main(["convert-policy", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not Path("x.safetensors").exists()
