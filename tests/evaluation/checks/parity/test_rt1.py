from dataclasses import replace

import numpy as np
import pytest

from v2w_gym.evaluation.checks.parity.parity import compare_outputs
from v2w_gym.evaluation.checks.parity.rt1 import generate, load_rt1, rt1


def test_weights_are_numbers_of_their_place_in_the_list():
    named = {
        "global_step:0": (),
        "a/bn/moving_mean:0": (2,),
        "a/bn/moving_variance:0": (2,),
        "a/bn/gamma:0": (2,),
        "a/bn/beta:0": (2,),
        "normalization/mean:0": (3,),
        "normalization/count:0": (),
        "a/film_conditioning/dense/kernel:0": (4, 2),
        "a/conv/kernel:0": (3, 3, 5, 2),
        "a/dwconv/depthwise_kernel:0": (3, 3, 5, 1),
        "a/attention/key/kernel:0": (512, 2, 4),
        "a/attention/attention_output/kernel:0": (2, 4, 512),
        "a/dense/kernel:0": (8, 2),
        "a/dense_9/kernel:0": (114, 512),
    }
    info = {"seed_base": 50, "names": list(named), "shapes": [list(s) for s in named.values()]}
    found = [value for _, value in generate(info)]

    def drawn(number: int) -> np.ndarray:
        return np.random.default_rng(50 + number).standard_normal(list(named.values())[number])

    expected = [
        0.05 * drawn(1),
        1 + 0.2 * abs(drawn(2)),
        1 + 0.1 * drawn(3),
        0.05 * drawn(4),
        [0.485, 0.456, 0.406],
        0,
        0.3 * drawn(7),
        drawn(8) * (2 / 45) ** 0.5,
        drawn(9) * (2 / 9) ** 0.5,
        drawn(10) * (1 / 512) ** 0.5,
        drawn(11) * (1 / 8) ** 0.5,
        drawn(12) * (1 / 8) ** 0.5,
        0.3 * drawn(13),
    ]
    assert len(found) == len(expected)
    for value, wanted in zip(found, expected, strict=True):
        assert value.dtype == np.float32 and np.allclose(value, wanted, rtol=1e-6)


@pytest.fixture(scope="module")
def network(rt1_vector):
    return load_rt1(rt1_vector)


@pytest.fixture
def short(rt1_vector):
    """The vector's first two frames."""
    kept = {
        name: value if name == "in/embedding" else value[:2]
        for name, value in rt1_vector.tensors.items()
        if "train" not in name
    }
    return replace(rt1_vector, tensors=kept)


def used(vector, network):
    """Share of its tolerance that each output uses."""
    return {c.name: c.used for c in compare_outputs(vector, rt1(vector, network))}


def test_the_first_frames_of_the_published_network(short, network):
    found = used(short, network)
    assert len(found) == 3 + 6 and {"logits", "image_tokens", "tokens"} < set(found)
    assert max(found.values()) < 1


@pytest.mark.parametrize(
    ("tensor", "change", "worst"),
    [
        ("out/logits", lambda x: x + 2e-4, "logits"),
        ("out/tokens", lambda x: x + 1, "tokens"),
        ("in/images", lambda x: x.roll(1, dims=3), "logits"),
        ("in/embedding", lambda x: x * 1.01, "logits"),
    ],
)
def test_what_differs_fails(short, network, tensor, change, worst):
    damaged = {**short.tensors, tensor: change(short.tensors[tensor])}
    assert used(replace(short, tensors=damaged), network)[worst] > 1


def test_another_order_of_frames_fails(short, network):
    """The history counts: the second frame alone does not give what it gives after the first."""
    swapped = {
        name: value.flip(0) if value.ndim > 1 else value for name, value in short.tensors.items()
    }
    found = used(replace(short, tensors=swapped), network)
    assert found["image_tokens"] < 1 < found["logits"]


def test_labels_and_loss_of_training(rt1_vector, network):
    found = used(rt1_vector, network)
    assert found["train_labels"] == 0 and found["train_loss"] < 1
