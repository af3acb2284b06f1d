"""Published RT-1 weights, and files that must not be mistaken for them."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.saved_models import (
    SMALL,
    rt1_variables,
    tensorflow,
    write_saved_model,
    write_variables,
)
from tests.specs import field, write_specs
from v2w_gym.configs.convert import ConvertPolicyConfig
from v2w_gym.configs.robots import GOOGLE_ROBOT
from v2w_gym.configs.rt1 import RT1_SIZES
from v2w_gym.evaluation.checks.parity.rt1 import generate
from v2w_gym.policies.instructions import InstructionTable, make_table, save_table
from v2w_gym.policies.rt1.convert import convert
from v2w_gym.policies.rt1.network import RT1Network
from v2w_gym.policies.rt1.policy import load_rt1
from v2w_gym.world_models.checkpoint import load_checkpoint

ARM = "".join(
    field(f.name, f.size, f.low, f.high, "int" if f.name == "terminate_episode" else "float")
    for f in GOOGLE_ROBOT.fields
)


@pytest.fixture
def variables() -> list[tuple[str, np.ndarray]]:
    return rt1_variables(SMALL)


@pytest.fixture
def saved_model(tmp_path: Path, variables) -> Path:
    return write_saved_model(tmp_path / "rt1main", variables, step=424760)


def numbered(variables: list[tuple[str, np.ndarray]], first: int = 1) -> dict[int, Any]:
    """Return TensorFlow's variables of these names and values by their numbers."""
    make = tensorflow().Variable
    return {i: make(value, name=name) for i, (name, value) in enumerate(variables, first)}


def converted(source: Path, output: Path | None = None, **settings) -> Path:
    output = output or source.parent / "out" / "rt1.safetensors"
    return convert(ConvertPolicyConfig(str(source), str(output), **settings), SMALL)


def test_weights_are_those_of_the_saved_model(saved_model, variables):
    weights, _ = load_checkpoint(converted(saved_model))
    given = [torch.from_numpy(value).float() for _, value in variables]
    kernel, bias = given[-6:-4]
    assert kernel.shape == (16, 256)
    assert weights["network.read_out.weight"].dtype == torch.float32
    assert (weights["network.read_out.weight"] == kernel.T).all()
    assert (weights["network.read_out.bias"] == bias).all()
    stem, mean, variance, scale, shift = given[6:11]
    norm = "network.encoder.stem.norm"
    assert (weights["network.encoder.stem.conv.weight"] == stem.permute(3, 2, 0, 1)).all()
    assert (weights[f"{norm}.running_mean"] == mean).all()
    assert (weights[f"{norm}.running_var"] == variance).all()
    assert (weights[f"{norm}.weight"] == scale).all() and (weights[f"{norm}.bias"] == shift).all()


def test_every_number_of_the_saved_model_is_used(saved_model, variables):
    weights, _ = load_checkpoint(converted(saved_model))
    kept = sum(value.numel() for name, value in weights.items() if name != "instructions")
    constants = 3 + 3 + 1
    assert kept == sum(value.size for _, value in variables) - constants


def test_the_card_says_where_the_weights_come_from_and_what_was_checked(saved_model, variables):
    write_specs(saved_model, ARM)
    _, card = load_checkpoint(converted(saved_model))
    assert card["kind"] == "rt1" and card["robot"] == "google_robot"
    assert card["source"] == "rt1main" and len(card["source_index_sha256"]) == 64
    assert card["train_step"] == 424760
    assert card["variables"] == len(variables)
    statistics = sum(value.size for name, value in variables if "moving_" in name)
    assert card["parameters"] == sum(value.size for _, value in variables) - statistics - 7
    assert card["instructions"] == []
    assert card["checks"] == {
        "checksums": f"all {len(variables)} variables match",
        "names": f"{len(variables)} of {len(variables)} variables have names, and those fit",
        "bounds": "6 action fields are bounded as google_robot's",
        "token_order": "taken from RT-1's public code; v2w verify-policy compares with the "
        "SavedModel",
    }


def test_the_folder_of_the_variables_is_enough(saved_model):
    write_specs(saved_model, ARM)
    from_above, from_within = (
        converted(saved_model),
        converted(saved_model / "variables", saved_model.parent / "within.safetensors"),
    )
    assert from_above.read_bytes() == from_within.read_bytes()
    assert (
        from_above.with_suffix(".json").read_text() == from_within.with_suffix(".json").read_text()
    )


def test_bounds_that_are_not_there_are_not_verified(saved_model):
    _, card = load_checkpoint(converted(saved_model))
    assert card["checks"]["bounds"].startswith("not verified, there is no policy_specs.pbtxt")


def test_variables_without_names_are_identified_by_shape(tmp_path, variables):
    folder = write_saved_model(tmp_path / "unnamed", [("", value) for _, value in variables])
    _, card = load_checkpoint(converted(folder))
    assert card["checks"]["names"].startswith("0 of ")


def test_the_policy_acts_when_it_is_given_instructions(saved_model):
    table = saved_model.parent / "table.safetensors"
    save_table(table, make_table(["pick apple"], SMALL.instruction_size), {})
    policy = load_rt1(converted(saved_model, instructions=str(table)), GOOGLE_ROBOT)
    policy.reset(["Pick apple."], seeds=[0])
    frames = np.zeros((1, *SMALL.image_size, 3), np.uint8)
    assert policy.act(frames, np.ones(1, bool)).actions.shape == (1, 1, 13)


def test_instructions_of_another_encoder_are_refused(saved_model):
    table = saved_model.parent / "table.safetensors"
    save_table(table, make_table(["pick apple"], 5), {})
    with pytest.raises(ValueError, match="expected embeddings of 8 values .* found 5 in"):
        converted(saved_model, instructions=str(table))


@pytest.mark.parametrize(("low", "high"), [(-2.0, 2.0), (-1.0, 2.0), (-2.0, 1.0)])
def test_actions_in_other_bounds_are_refused(saved_model, low, high):
    other = ARM.replace(field("world_vector", 3, -1, 1), field("world_vector", 3, low, high))
    assert other != ARM
    write_specs(saved_model, other)
    with pytest.raises(
        ValueError,
        match="3 values of world_vector from -1 to 1 .* tokens mean other actions; run the "
        "SavedModel itself: source=.*rt1main",
    ):
        converted(saved_model)


def test_the_train_step_may_be_variable_0(tmp_path, variables):
    write_variables(tmp_path / "variables", numbered([("step", np.array(1120)), *variables], 0))
    _, card = load_checkpoint(converted(tmp_path))
    assert card["train_step"] == 1120 and card["variables"] == len(variables)


def test_other_actions_are_refused(saved_model):
    write_specs(saved_model, field("joint_velocities", 7, -1.0, 1.0))
    with pytest.raises(ValueError, match=r"expected the actions .* found \['joint_velocities'\]"):
        converted(saved_model)


def test_another_network_is_refused_and_can_be_run_in_tensorflow(tmp_path, variables):
    swiglu = [*variables[:-8], ("ff/kernel", np.ones((16, 64), np.float32)), *variables[-8:]]
    folder = write_saved_model(tmp_path / "rt1x", swiglu)
    with pytest.raises(ValueError, match=r"RT-1-X, run from their SavedModel .*\(source=.*rt1x\)"):
        converted(folder)


def test_a_name_at_the_wrong_place_is_refused(tmp_path, variables):
    (mean, a), (variance, b) = variables[7:9]
    assert mean.endswith("moving_mean") and variance.endswith("moving_variance")
    variables[7:9] = [(variance, a), (mean, b)]
    with pytest.raises(ValueError, match=r"variable 8 \(layer_9/moving_variance.*another order"):
        converted(write_saved_model(tmp_path / "rt1main", variables))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_variable_that_is_not_finite_is_refused_by_name(tmp_path, variables, value):
    name, values = variables[-6]
    variables[-6] = name, np.full_like(values, value)
    folder = write_saved_model(tmp_path / "saved", variables)
    with pytest.raises(ValueError, match=f"values NaN or infinite in '{name}"):
        converted(folder)
    assert not (tmp_path / "out").exists()


def test_a_missing_variable_is_named(tmp_path, variables):
    kept = {i: variable for i, variable in numbered(variables).items() if i != 5}
    write_variables(tmp_path / "variables", kept)
    with pytest.raises(ValueError, match="found no 5; save"):
        converted(tmp_path)


def test_a_training_checkpoint_is_not_taken_for_the_policy(tmp_path, variables):
    checkpoint = tensorflow().train.Checkpoint
    network = checkpoint(**{str(i): variable for i, variable in numbered(variables).items()})
    agent = checkpoint(_actor_network=network)
    checkpoint(agent=agent).write(str(tmp_path / "ckpt-424760"))
    with pytest.raises(ValueError, match=r"a training checkpoint \(ckpt-\*\) lacks .* SavedModel"):
        converted(tmp_path / "ckpt-424760")


def test_damaged_data_leave_nothing_behind(saved_model):
    data = saved_model / "variables" / "variables.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    with pytest.raises(ValueError, match=r"expected model_variables/\d+/.*[Cc]hecksum"):
        converted(saved_model)
    assert not (saved_model.parent / "out").exists()


def test_bounds_are_found_beside_linked_weights(saved_model, tmp_path):
    for name in ("variables.index", "variables.data-00000-of-00001"):
        file, kept = saved_model / "variables" / name, tmp_path / "blobs" / name
        kept.parent.mkdir(exist_ok=True)
        file.rename(kept)
        file.symlink_to(kept)
    write_specs(saved_model, ARM)
    card = load_checkpoint(converted(saved_model))[1]
    assert card["source"] == "rt1main"
    assert card["checks"]["bounds"] == "6 action fields are bounded as google_robot's"


def test_only_an_earlier_conversion_is_overwritten(saved_model, tmp_path):
    first = converted(saved_model)
    assert converted(saved_model).read_bytes() == first.read_bytes()
    with pytest.raises(ValueError, match="expected output to be a file that ends in .safetensors"):
        converted(saved_model, tmp_path / "rt1.ckpt")
    (tmp_path / "notes.json").write_text("{}")
    with pytest.raises(ValueError, match="notes.json to be free for the card"):
        converted(saved_model, tmp_path / "notes.safetensors")


def test_a_robot_with_other_actions_is_refused(saved_model):
    with pytest.raises(ValueError, match="robot"):
        converted(saved_model, robot="spot")
    write_specs(saved_model, ARM)
    with pytest.raises(ValueError, match="of base_displacement_vector from 0 to 0 as robot"):
        converted(saved_model, robot="standin_sawyer")


@pytest.mark.slow
def test_what_tensorflow_saves_acts_as_it_does_there(tmp_path):
    """The full-size network with the golden weights, saved by TensorFlow and stepped by us."""
    if not (cases := os.environ.get("V2W_PARITY_DIR")):
        pytest.skip("needs V2W_PARITY_DIR, the folder of reference test vectors")
    folder = Path(cases) / "rt1"
    case = json.loads((folder / "rt1.json").read_text())
    variables = [(name.removesuffix(":0"), value) for name, value in generate(case)]
    saved_model = write_saved_model(tmp_path / "rt1", variables, step=424760)
    golden = {name: value.numpy() for name, value in load_file(folder / "rt1.safetensors").items()}
    table = tmp_path / "table.safetensors"
    save_table(table, InstructionTable(("golden",), golden["in/embedding"][None]), {})
    output = tmp_path / "rt1.safetensors"
    convert(ConvertPolicyConfig(str(saved_model), str(output), instructions=str(table)))

    weights, card = load_checkpoint(output)
    assert card["train_step"] == 424760 and card["parameters"] == 35_252_128
    assert card["checks"]["names"] == "732 of 732 variables have names, and those fit"
    network = RT1Network(RT1_SIZES["rt1"], action_tokens=11).eval()
    del weights["instructions"]
    network.load_state_dict({key.removeprefix("network."): w for key, w in weights.items()})
    instruction = torch.from_numpy(golden["in/embedding"])[None]
    frames = torch.from_numpy(golden["in/images"][:6])
    with torch.no_grad():
        image_tokens = torch.cat([network.encode(frame[None], instruction) for frame in frames])
        logits = network(image_tokens[None])[0]
    assert np.abs(logits.numpy() - golden["out/logits"][:6]).max() < 1e-4

    policy = load_rt1(output, GOOGLE_ROBOT)
    policy.reset(["golden"], seeds=[0])
    for step, frame in enumerate(golden["in/images"]):
        (actions,) = policy.act(frame[None], np.ones(1, bool)).actions
        for name, place in GOOGLE_ROBOT.slices.items():
            np.testing.assert_allclose(
                actions[0, place], golden[f"out/action/{name}"][step], atol=1e-6
            )
