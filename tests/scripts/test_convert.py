"""Convert, parity and random checkpoints as a user gives the commands."""

from pathlib import Path

import pytest

from v2w_gym.scripts import cli

VECTORS = Path(__file__).parents[1] / "golden" / "vectors"


def test_a_random_checkpoint_can_be_converted(tmp_path, capsys):
    published, output = tmp_path / "recon.ckpt", tmp_path / "recon.safetensors"
    assert cli.main(["random-checkpoint", str(published), "robot=recon_jackal"]) == 0
    assert cli.main(["convert", str(published), str(output), "preset=reference"]) == 0
    printed = capsys.readouterr().out
    assert f"wrote {output}" in printed and f"checkpoint={output}" in printed
    assert output.is_file() and output.with_suffix(".json").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["convert"], "expected a value for checkpoint"),
        (["convert", "none.ckpt", "x.safetensors"], "found no such file"),
        (["random-checkpoint", "x.ckpt", "robot=spot"], "expected robot to be one of"),
        (["parity", "nowhere"], "expected reference test vectors"),
    ],
)
def test_mistakes_end_in_one_line(capsys, words, message):
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_damaged_checkpoint_ends_in_one_line(tmp_path, capsys):
    damaged = tmp_path / "x.ckpt"
    damaged.write_bytes(b"PK\x03\x04 not a checkpoint")
    assert cli.main(["convert", str(damaged), str(tmp_path / "x.safetensors")]) == 2
    assert "expected a whole PyTorch checkpoint" in capsys.readouterr().err


def test_parity_prints_one_line_a_vector(capsys):
    assert cli.main(["parity", str(VECTORS)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[:-1]] == [
        ["resampler", "pass"],
        ["schedule", "pass"],
        ["unet_csgo", "pass"],
    ]
    assert lines[-1] == "3 of 3 vectors pass"


def test_parity_fails_with_status_1(tmp_path, capsys):
    (tmp_path / "vae.json").write_text("{}")
    assert cli.main(["parity", str(tmp_path)]) == 1
    assert "COULD NOT RUN" in capsys.readouterr().out
