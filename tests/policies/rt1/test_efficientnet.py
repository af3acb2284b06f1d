from dataclasses import replace

import pytest
import torch
from torch import nn

from v2w_gym.configs.rt1 import RT1_SIZES, RT1Config
from v2w_gym.policies.rt1.efficientnet import (
    ConvNorm,
    FiLM,
    ImageEncoder,
    MBConv,
    SqueezeExcite,
    feature_size,
)


def test_sides_of_the_published_feature_maps():
    """Padding as in TensorFlow's SAME, or as is usual in PyTorch, ends at 10 x 10."""
    sides = [300]
    for kernel in (3, 3, 5, 3, 5):  # the stem, and the first block of stages 2, 3, 4 and 6
        halve = ConvNorm(1, 1, kernel, stride=2)
        sides.append(halve(torch.zeros(2, 1, sides[-1], sides[-1])).shape[-1])
    assert sides == [300, 150, 75, 37, 18, 9]
    assert feature_size(RT1_SIZES["rt1"]) == (9, 9)


@pytest.mark.parametrize(
    ("stride", "kernel", "expected"),
    [
        (2, 3, [1 + 2 + 3, 3 + 4 + 5]),
        (2, 5, [0 + 1 + 2 + 3 + 4, 2 + 3 + 4 + 5 + 0]),
        (1, 3, [0 + 1 + 2, 1 + 2 + 3, 2 + 3 + 4, 3 + 4 + 5, 4 + 5 + 0]),
    ],
)
def test_padding_worked_by_hand(stride: int, kernel: int, expected: list[int]):
    conv = ConvNorm(1, 1, kernel, stride)
    conv.norm = nn.Identity()
    conv.conv.weight.data.zero_()
    conv.conv.weight.data[..., kernel // 2, :] = 1  # sums along a row
    line = torch.arange(1.0, 6).expand(1, 1, 5, 5)
    assert (conv(line) == torch.tensor(expected)).all()


def test_film_worked_by_hand():
    film = FiLM(2, 1)
    film.multiply.weight.data = torch.tensor([[1.0, 0.0]])
    film.multiply.bias.data = torch.tensor([0.5])
    film.add.weight.data = torch.tensor([[0.0, 3.0]])
    features = torch.tensor([[[[2.0, -1.0]]]])
    out = film(features, torch.tensor([[1.0, 2.0]]))  # x * (1 + 1 + 0.5) + 6
    assert out.flatten().tolist() == [11.0, 3.5]


def test_squeeze_and_excite_worked_by_hand():
    squeeze = SqueezeExcite(2, 1)
    squeeze.reduce.weight.data = torch.tensor([[1.0, 1.0]])
    squeeze.reduce.bias.data = torch.tensor([-1.0])
    squeeze.expand.weight.data = torch.tensor([[1.0], [0.0]])
    squeeze.expand.bias.data = torch.tensor([0.0, 0.0])
    features = torch.tensor([[[[1.0, 3.0]], [[0.0, 2.0]]]])  # means 2 and 1, so 2 before SiLU
    hidden = 2 / (1 + torch.exp(torch.tensor(-2.0)))
    expected = features * torch.tensor([torch.sigmoid(hidden), 0.5])[:, None, None]
    assert torch.allclose(squeeze(features), expected)


def test_a_block_adds_its_input_before_film_only_where_shapes_agree():
    for stride, outputs, skips in ((1, 4, True), (2, 4, False), (1, 6, False)):
        block = MBConv((4, outputs), 3, stride, expansion=2, instruction_size=2).eval()
        block.project.norm.weight.data.zero_()  # the block gives nothing
        block.film.multiply.bias.data.fill_(1)
        features = torch.randn(1, 4, 6, 6)
        expected = 2 * features if skips else torch.zeros(1, outputs, 6 // stride, 6 // stride)
        assert torch.equal(block(features, torch.zeros(1, 2)), expected)


def test_squeeze_is_a_quarter_of_what_comes_in_and_nothing_is_expanded_by_one():
    block = MBConv((40, 24), 3, 1, expansion=1, instruction_size=2)
    assert block.expand is None and block.squeeze.reduce.weight.shape == (10, 40)
    wide = MBConv((24, 32), 3, 2, expansion=6, instruction_size=2)
    assert wide.depthwise.conv.weight.shape == (144, 1, 3, 3)
    assert wide.squeeze.reduce.weight.shape == (6, 144)


def test_blocks_are_left_out_per_sample_in_training_alone():
    torch.manual_seed(0)
    block = MBConv((4, 4), 3, 1, expansion=2, instruction_size=2)
    block.dropped = 0.25
    hidden = torch.ones(4000, 4, 1, 1)
    left = block._drop(hidden)
    assert left.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (left == left[:, :1]).all()  # a sample as a whole
    assert (left[:, 0] == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert block.eval()._drop(hidden) is hidden


def test_later_blocks_are_left_out_more_often(tiny: RT1Config):
    encoder = ImageEncoder(replace(tiny, drop_connect=0.3))
    assert [block.dropped for block in encoder.blocks] == pytest.approx([0, 0.1, 0.2])


def test_instruction_does_nothing_before_training_and_something_after(tiny: RT1Config):
    torch.manual_seed(0)
    encoder = ImageEncoder(tiny).eval()
    frame = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    one, two = torch.randn(2, 1, tiny.instruction_size)
    assert torch.equal(encoder(frame, one), encoder(frame, two))
    for module in encoder.modules():
        if isinstance(module, FiLM):
            module.add.weight.data.normal_()
    assert not torch.allclose(encoder(frame, one), encoder(frame, two))


def test_every_block_is_followed_by_film(tiny: RT1Config):
    encoder = ImageEncoder(tiny)
    assert sum(isinstance(m, FiLM) for m in encoder.modules()) == sum(tiny.repeats) + 1


def test_frames_are_resized_without_antialias_and_normalised(tiny: RT1Config):
    encoder = ImageEncoder(replace(tiny, input_size=(2, 2)))
    frame = torch.zeros(1, 4, 6, 3, dtype=torch.uint8)
    frame[0, :, :, 0] = torch.tensor([0, 10, 20, 30, 40, 250])  # half pixels: 1 and 4
    frame[0, :, :, 1] = torch.tensor([[10], [20], [30], [250]])  # between 0 and 1, 2 and 3
    pixels = encoder._preprocess(frame)[0]
    red = (torch.tensor([10.0, 40.0]) / 255 - 0.485) / 0.229
    green = (torch.tensor([15.0, 140.0]) / 255 - 0.456) / 0.224
    assert torch.allclose(pixels[0], red.expand(2, 2), atol=1e-5)
    assert torch.allclose(pixels[1], green[:, None].expand(2, 2), atol=1e-5)


def test_batch_norms_are_tensorflows(tiny: RT1Config):
    encoder = ImageEncoder(replace(tiny, norm_momentum=0.01))
    norms = [m for m in encoder.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}
    assert len(norms) == 2 + 2 + 3 + 3  # stem and top, a block of two, two of three


def test_learned_positions_tell_the_places_of_a_plain_frame_apart(tiny: RT1Config):
    plain = torch.full((1, 64, 64, 3), 100, dtype=torch.uint8)
    instruction = torch.zeros(1, tiny.instruction_size)
    for positions in (False, True):
        encoder = ImageEncoder(replace(tiny, feature_positions=positions)).eval()
        encoder.head.weight.data.zero_()
        features = encoder(plain, instruction)
        assert features.shape == (1, 64, tiny.token_size)
        assert (features.std(dim=1) > 0).all() == positions


def test_a_block_is_left_out_of_some_training_samples():
    """The others are scaled up, so that the mean is as in use, where nothing is left out."""
    torch.manual_seed(0)
    block = MBConv((8, 8), kernel=3, stride=1, expansion=1, instruction_size=2).eval()
    instruction, features = torch.zeros(1, 2), torch.randn(1, 8, 4, 4)
    block.dropped = 0.25
    with torch.no_grad():
        added = block(features, instruction) - features
        block.training = True  # its batch norms still take their running statistics
        trained = [block(features, instruction) - features for _ in range(400)]
    left_out = [bool((found == 0).all()) for found in trained]
    assert 70 < sum(left_out) < 130
    for out, found in zip(left_out, trained, strict=True):
        assert out or torch.allclose(found, added / 0.75, atol=1e-6)
