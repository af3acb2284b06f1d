"""ImageNet weights by timm's names."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from v2w_gym.configs.rt1 import RT1_SIZES, RT1Config
from v2w_gym.policies.rt1.imagenet import load_imagenet, timm_names
from v2w_gym.policies.rt1.network import RT1Network

NAMES = {
    "conv_stem.weight": "stem.conv.weight",
    "bn1.running_var": "stem.norm.running_var",
    "blocks.0.0.conv_dw.weight": "blocks.0.depthwise.conv.weight",
    "blocks.0.0.conv_pw.weight": "blocks.0.project.conv.weight",
    "blocks.0.0.bn2.bias": "blocks.0.project.norm.bias",
    "blocks.1.0.conv_pw.weight": "blocks.1.expand.conv.weight",
    "blocks.1.1.conv_dw.weight": "blocks.2.depthwise.conv.weight",
    "blocks.1.1.conv_pwl.weight": "blocks.2.project.conv.weight",
    "blocks.1.1.bn3.running_mean": "blocks.2.project.norm.running_mean",
    "conv_head.weight": "top.conv.weight",
    "bn2.weight": "top.norm.weight",
}


def timm_weights(network: RT1Network) -> dict[str, torch.Tensor]:
    """Return random weights by timm's names, in timm's shapes."""
    torch.manual_seed(1)
    found = {"classifier.weight": torch.randn(10, 16), "bn1.num_batches_tracked": torch.tensor(7)}
    ours = network.encoder.state_dict()
    for our_layer, their_layer in timm_names(network.cfg):
        for kind in ("weight", "bias", "running_mean", "running_var"):
            if (value := ours.get(f"{our_layer}.{kind}")) is not None:
                shape = (*value.shape, 1, 1) if "squeeze" in our_layer and kind == "weight" else ()
                found[f"{their_layer}.{kind}"] = torch.rand(shape or value.shape)
    return found


@pytest.fixture
def file(network: RT1Network, tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_file(timm_weights(network), path)
    return path


def test_every_weight_of_the_encoder_but_film_and_head_is_replaced(network: RT1Network, file: Path):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    load_imagenet(network, file)
    given = timm_weights(network)
    after = network.encoder.state_dict()
    for theirs, ours in NAMES.items():
        assert torch.equal(after[ours], given[theirs])
    reduce = after["blocks.1.squeeze.reduce.weight"]
    assert torch.equal(reduce, given["blocks.1.0.se.conv_reduce.weight"][:, :, 0, 0])
    changed = {
        name for name, value in network.state_dict().items() if (value != before[name]).any()
    }
    stays = re.compile(r"encoder\.(head|film|positions|.*\.film|.*num_batches_tracked).*")
    assert changed == {f"encoder.{name}" for name in after if not stays.match(f"encoder.{name}")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bn2.weight": None}, r"expected bn2.weight in .* of shape \(16,\), found none"),
        ({"bn2.weight": torch.ones(3)}, r"of shape \(16,\), found \(3,\)"),
        ({"blocks.2.0.conv_pw.weight": torch.ones(3)}, "1 more, such as blocks.2.0.conv_pw.weight"),
    ],
)
def test_weights_of_another_network_are_refused(
    network: RT1Network, tmp_path: Path, change: dict, message: str
):
    given = {**timm_weights(network), **change}
    path = tmp_path / "other.safetensors"
    save_file({name: value for name, value in given.items() if value is not None}, path)
    with pytest.raises(ValueError, match=message):
        load_imagenet(network, path)


def test_what_is_no_weights_is_named(network: RT1Network, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="expected timm's EfficientNet weights at"):
        load_imagenet(network, tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(ValueError, match="expected safetensors weights in"):
        load_imagenet(network, tmp_path / "text.safetensors")


@pytest.mark.weights
def test_the_features_are_those_of_timm(tmp_path: Path):
    """Sides that stay even are padded alike by both, so features must agree."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    theirs = timm.create_model("tf_efficientnet_b3", pretrained=False).eval()
    for name, value in theirs.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            value.uniform_(0.5, 1.5)
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    cfg: RT1Config = replace(RT1_SIZES["rt1"], layers=1)
    ours = RT1Network(cfg, 11).eval()
    load_imagenet(ours, tmp_path / "model.safetensors")
    images, instruction = torch.randn(1, 3, 128, 128), torch.zeros(1, 512)
    with torch.no_grad():
        features = torch.nn.functional.silu(ours.encoder.stem(images))
        for block in ours.encoder.blocks:
            features = block(features, instruction)
        features = torch.nn.functional.silu(ours.encoder.top(features))
        expected = theirs.forward_features(images)
    assert expected.std() > 1e-4
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4 * float(expected.std()))
