import math

import pytest
import torch

from v2w_gym.configs.model import ClipConfig
from v2w_gym.world_models.vid2world.clip_towers import ClipImageTower, ClipTextTower, empty_prompt

CFG = ClipConfig(width=16, layers=2, heads=2, hidden=32)
VOCABULARY = 50


@pytest.fixture(scope="module")
def image_tower() -> ClipImageTower:
    torch.manual_seed(0)
    return ClipImageTower(CFG).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def text_tower() -> ClipTextTower:
    torch.manual_seed(0)
    return ClipTextTower(CFG, VOCABULARY).eval().requires_grad_(False)


def unscaled(pixels: torch.Tensor) -> torch.Tensor:
    """Undo CLIP's mean and spread of the red channel, and the way to [0, 1]."""
    return (pixels * 0.26862954 + 0.48145466) * 2 - 1


@pytest.mark.parametrize("size", [(40, 64), (224, 224), (320, 512), (200, 700)])
def test_a_plain_image_stays_plain(size):
    pixels = ClipImageTower.preprocess(torch.full((1, 3, *size), 0.5))
    assert pixels.shape == (1, 3, 224, 224)
    expected = [(0.75 - 0.48145466) / 0.26862954, (0.75 - 0.4578275) / 0.26130258]
    torch.testing.assert_close(pixels[0, :2, 0, 0], torch.tensor(expected))
    torch.testing.assert_close(pixels, pixels[:, :, :1, :1].expand_as(pixels))


def test_an_image_of_clips_size_keeps_its_pixels():
    image = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(unscaled(ClipImageTower.preprocess(image)[:, 0]), image[:, 0])


def test_corners_of_a_growing_image_stay_where_they_are():
    image = torch.rand(1, 3, 40, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    pixels = unscaled(ClipImageTower.preprocess(image)[0, 0])
    torch.testing.assert_close(pixels[::223, ::223], image[0, 0, ::39, ::63])


def test_only_an_axis_that_shrinks_is_blurred():
    """Width shrinks 2-fold: sigma 0.5 and weights 1 beside e^2 beside 1, sum 1; edges mirrored."""
    stripes = torch.ones(1, 3, 112, 448)
    stripes[:, :, :, 1::2] = -1
    pixels = unscaled(ClipImageTower.preprocess(stripes)[0, 0])
    across = (math.e**2 - 2) / (math.e**2 + 2)
    torch.testing.assert_close(pixels[:, 0], torch.full((224,), across))
    rows = stripes.transpose(2, 3)[:, :, :224, :112]  # nothing shrinks
    torch.testing.assert_close(unscaled(ClipImageTower.preprocess(rows)[0, 0])[0], torch.ones(224))


def test_an_image_gives_one_token_and_one_per_patch(image_tower):
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(3))
    tokens = image_tower(images)
    assert tokens.shape == (2, 257, 16)
    torch.testing.assert_close(image_tower(images[1:]), tokens[1:])


def test_without_blocks_a_token_is_its_patch_in_its_place():
    tower = ClipImageTower(ClipConfig(width=4, layers=0, heads=1, hidden=4)).requires_grad_(False)
    tower.class_embedding.zero_()
    tower.position_embedding.zero_()
    tower.patch_embedding.weight.zero_()
    tower.patch_embedding.weight[0, 0, 13, 13] = 1  # looks at a patch's last red pixel
    image = torch.zeros(1, 3, 224, 224)
    image[0, 0, 27, 13] = 1  # the last one of the first patch of the second row
    tokens = tower(image)
    changed = [token for token in range(257) if tokens[0, token].any()]
    assert changed == [1 + 16]


def test_a_later_word_never_moves_an_earlier_one(text_tower):
    prompt = torch.arange(77)[None] % VOCABULARY
    changed = prompt.clone()
    changed[0, 40] = 7
    moved = (text_tower(prompt) - text_tower(changed)).abs().amax(-1)[0] > 0
    assert moved.tolist() == [False] * 40 + [True] * 37


def test_the_empty_prompt_is_start_end_and_padding(text_tower):
    tokens = empty_prompt(VOCABULARY)
    assert tokens.tolist() == [[48, 49] + [0] * 75]
    assert text_tower(tokens).shape == (1, 77, 16)


@pytest.mark.parametrize("make", [lambda: ClipImageTower(CFG), lambda: ClipTextTower(CFG, 50)])
def test_built_without_memory_and_filled(make):
    filled = make().eval()
    with torch.device("meta"):
        empty = make()
    assert all(weight.is_meta for weight in empty.state_dict().values())
    empty.load_state_dict(filled.state_dict(), assign=True)
    assert not [name for name, buffer in empty.named_buffers() if buffer.is_meta]
    images = isinstance(filled, ClipImageTower)
    given = torch.randn(1, 3, 224, 224) if images else empty_prompt(VOCABULARY)
    assert torch.equal(empty.eval()(given), filled(given))
