import numpy as np
import pytest
import torch

from tests.saved_models import SMALL, rt1_variables
from v2w_gym.configs.rt1 import RT1_SIZES
from v2w_gym.policies.rt1.network import RT1Network
from v2w_gym.policies.rt1.variables import ACTION_TOKENS, from_variables, published_order


@pytest.fixture
def variables() -> list[tuple[str, np.ndarray]]:
    return rt1_variables(SMALL)


def place(key: str) -> int:
    """The place of one of our weights among the variables."""
    return [variable.key for variable in published_order(SMALL)].index(key)


def test_every_weight_of_the_network_comes_from_one_variable(variables):
    cfg, weights = from_variables(variables, SMALL)
    assert cfg == SMALL
    network = RT1Network(cfg, ACTION_TOKENS)
    wanted = {n for n in network.state_dict() if not n.endswith("num_batches_tracked")}
    assert set(weights) == wanted
    network.load_state_dict(weights)
    assert len(variables) == len(wanted) + 3  # mean, variance and count of the image constants


@pytest.mark.parametrize(("size", "variables"), [("rt1", 732), ("multirobot", 760)])
def test_published_networks_have_as_many_variables(size: str, variables: int):
    assert len(published_order(RT1_SIZES[size])) == variables


def test_published_order():
    """Numbers as in the published checkpoints, from 1."""
    found = published_order(RT1_SIZES["rt1"])
    numbers = {variable.key: (i, variable.shape) for i, variable in enumerate(found, start=1)}
    assert numbers["action_embedding.weight"] == (1, (256, 512))
    assert numbers["encoder.head.weight"] == (3, (1, 1, 1536, 512))
    assert numbers["encoder.stem.norm.running_mean"] == (8, (40,))
    assert numbers["encoder.stem.norm.weight"] == (10, (40,))
    assert numbers["encoder.blocks.0.depthwise.conv.weight"] == (12, (3, 3, 40, 1))
    assert numbers["encoder.blocks.0.squeeze.reduce.weight"] == (17, (1, 1, 40, 10))
    assert numbers["encoder.blocks.0.film.add.weight"] == (26, (512, 24))
    assert numbers["encoder.blocks.2.expand.conv.weight"] == (48, (1, 1, 24, 144))
    assert numbers["encoder.top.conv.weight"] == (600, (1, 1, 384, 1536))
    assert numbers["encoder.film.multiply.bias"] == (608, (512,))
    assert numbers["token_learner.weigh.0.weight"] == (613, (512,))
    assert numbers["layers.0.key.weight"] == (617, (512, 8, 128))
    assert numbers["layers.0.mix.weight"] == (619, (8, 128, 512))
    assert numbers["layers.0.query.bias"] == (622, (8, 128))
    assert numbers["layers.7.norm2.bias"] == (726, (512,))
    assert numbers["positions.weight"] == (729, (114, 512))
    assert numbers["embed.bias"] == (732, (512,))


def test_layouts_worked_by_value(variables):
    """The published arithmetic on TensorFlow's axes gives what our layers give."""
    value = dict(
        zip((v.key for v in published_order(SMALL)), (v for _, v in variables), strict=True)
    )
    cfg, weights = from_variables(variables, SMALL)
    network = RT1Network(cfg, ACTION_TOKENS).eval()
    network.load_state_dict(weights)
    layer, rng = network.layers[0], np.random.default_rng(0)
    tokens = rng.standard_normal((5, cfg.width)).astype(np.float32)
    heads = np.einsum("sd,dhk->shk", tokens, value["layers.0.query.weight"])
    heads += value["layers.0.query.bias"]
    with torch.no_grad():
        ours = layer.query(torch.from_numpy(tokens))
        assert np.allclose(ours.view(5, 2, 8), heads, atol=1e-5)
        mixed = np.einsum("shk,hkd->sd", heads, value["layers.0.mix.weight"])
        mixed += value["layers.0.mix.bias"]
        assert np.allclose(layer.mix(ours), mixed, atol=1e-4)
        image = rng.standard_normal((3, 3, 8)).astype(np.float32)  # one window, h w c
        expected = np.einsum("hwc,hwcm->c", image, value["encoder.blocks.0.depthwise.conv.weight"])
        depthwise = network.encoder.blocks[0].depthwise.conv
        ours = depthwise(torch.from_numpy(image).movedim(-1, 0)[None])
        assert np.allclose(ours.flatten(), expected, atol=1e-5)


@pytest.mark.parametrize("change", [-1, 1, -14])
def test_variables_missing_or_too_many_are_refused(variables, change: int):
    changed = variables[:change] if change < 0 else [*variables, variables[-1]]
    with pytest.raises(ValueError, match="variables and 14 for each layer.*RT-1-X.*SavedModel"):
        from_variables(changed, SMALL)


def test_a_wrong_shape_is_named_with_its_number(variables):
    at = place("layers.0.feed_forward.weight")
    variables[at] = ("dense/kernel", np.zeros((16, 32), np.float32))
    with pytest.raises(
        ValueError,
        match=rf"expected shape \(16, 16\) of variable {at + 1} \(dense/kernel, our "
        r"layers.0.feed_forward.weight\), found \(16, 32\)",
    ):
        from_variables(variables, SMALL)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_a_number_is_refused(variables, bad: float):
    variables[place("embed.bias")][1][3] = bad
    with pytest.raises(ValueError, match=f"finite numbers in variable {len(variables)} "):
        from_variables(variables, SMALL)


def test_another_order_shows_in_the_names(variables):
    """Keys and queries have the same shapes."""
    key, query = place("layers.0.key.weight"), place("layers.0.query.weight")
    variables[key], variables[query] = variables[query], variables[key]
    with pytest.raises(ValueError, match="expected 'key/kernel' in the name"):
        from_variables(variables, SMALL)
    unnamed = [("", value) for _, value in variables]
    from_variables(unnamed, SMALL)  # nothing tells them apart


def test_a_negative_variance_is_refused(variables):
    """As it is found where the norms' variables come in another order."""
    at = place("encoder.top.norm.running_var")
    variables[at] = ("", np.full(16, -0.5, np.float32))
    with pytest.raises(ValueError, match=f"no negative variance in variable {at + 1}"):
        from_variables(variables, SMALL)


@pytest.mark.parametrize("key", ["encoder.mean", "encoder.std"])
def test_other_image_constants_are_refused(variables, key: str):
    variables[place(key)] = ("", np.array([0.5, 0.5, 0.5], np.float32))
    with pytest.raises(ValueError, match=f"expected ImageNet's .* as {key}"):
        from_variables(variables, SMALL)


def test_512_values_per_token_are_another_network(variables):
    variables[0] = ("", np.zeros((512, 16), np.float32))
    with pytest.raises(ValueError, match="expected 256 values per action token.*RT-1-X"):
        from_variables(variables, SMALL)


def test_shapes_of_something_else_are_refused(variables):
    with pytest.raises(ValueError, match="expected the shapes of an RT-1"):
        from_variables([("", np.zeros(3, np.float32)) for _ in variables], SMALL)
