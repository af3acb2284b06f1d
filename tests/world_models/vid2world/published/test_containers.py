"""Weights in the formats of training frameworks; each file is made by hand."""

import pytest
import torch

from v2w_gym.world_models.vid2world.published.containers import choose, find_weights

PLAIN = {
    "model.diffusion_model.out.2.weight": torch.tensor([1.0]),
    "first_stage_model.decoder.bias": torch.tensor([2.0]),
    "cond_stage_model.model.ln_final.weight": torch.tensor([3.0]),
}
AVERAGE = {"model.diffusion_model.out.2.weight": torch.tensor([10.0])}
WHOLE_AVERAGE = {**PLAIN, **AVERAGE}


def values(weights):
    return {name: value.item() for name, value in weights.items()}


def renamed(rule, weights=PLAIN):
    return {rule(name): value for name, value in weights.items()}


@pytest.mark.parametrize(
    "rule",
    [
        lambda n: "module." + n,
        lambda n: "_orig_mod." + n,
        lambda n: "_forward_module." + n,
        lambda n: "_forward_module._orig_mod.module." + n,
        lambda n: "world_model." + n,
        lambda n: "module.world_model._orig_mod." + n,
        lambda n: n.replace("diffusion_model.", "diffusion_model._orig_mod."),
        lambda n: n.replace("model.diffusion", "model.module.diffusion"),
        lambda n: n.replace("out.2.", "out._fsdp_wrapped_module.2._checkpoint_wrapped_module."),
    ],
)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: w,
        lambda w: {"state_dict": w, "epoch": 3},
        lambda w: {"module": w},
        lambda w: {"model": w, "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}}},
        lambda w: {"model": {"state_dict": w}},
        lambda w: {"model_state_dict": w},
    ],
)
def test_containers_are_opened_and_wrappers_taken_off(rule, wrap):
    (found,) = find_weights(wrap(renamed(rule)))
    assert values(found.weights) == values(PLAIN)
    assert not found.averaged


LDM = {
    "state_dict": {
        **PLAIN,
        "model_ema.diffusion_modelout2weight": torch.tensor([10.0]),
        "model_ema.decay": torch.tensor(0.99),
        "model_ema.num_updates": torch.tensor(7),
    }
}


@pytest.mark.parametrize(
    "stored",
    [
        LDM,
        {"model": PLAIN, "ema": WHOLE_AVERAGE},
        {"model": PLAIN, "ema": AVERAGE},
        {"state_dict": PLAIN, "ema_state_dict": {"module": WHOLE_AVERAGE}},
        {"state_dict": PLAIN, "state_dict_ema": renamed(lambda n: "module." + n, AVERAGE)},
        {"state_dict": PLAIN, "ema": renamed(lambda n: n.removeprefix("model."), AVERAGE)},
        renamed(lambda n: "online_model." + n) | renamed(lambda n: "ema_model." + n, WHOLE_AVERAGE),
    ],
)
def test_averaged_and_plain_weights_are_distinguished(stored):
    found = find_weights(stored)
    assert [one.averaged for one in found] == [False, True]
    assert values(choose(found, None).weights) == values(PLAIN)
    assert values(choose(found, False).weights) == values(PLAIN)
    assert values(choose(found, True).weights) == values(WHOLE_AVERAGE)


def test_lightnings_average_is_what_lightning_would_load():
    found = find_weights({"state_dict": WHOLE_AVERAGE, "current_model_state": PLAIN})
    assert values(choose(found, None).weights) == values(WHOLE_AVERAGE)
    assert choose(found, None).averaged
    assert values(choose(found, False).weights) == values(PLAIN)


def test_what_is_not_there_cannot_be_chosen():
    found = find_weights({"state_dict": PLAIN})
    with pytest.raises(ValueError, match=r"averaged \(EMA\) weights, found 0 among \['state_dict"):
        choose(found, True)
    found = find_weights({"first": PLAIN, "second": WHOLE_AVERAGE})
    with pytest.raises(ValueError, match=r"one set of weights, found 2 among \['first \(plain\)"):
        choose(found, None)
    assert find_weights({"state_dict": {"a": torch.ones(1)}, "b": 1}) == []


def test_a_name_that_is_there_twice_is_refused():
    twice = {**PLAIN, **renamed(lambda n: "module." + n)}
    with pytest.raises(ValueError, match=r"each weight once in the file, found 'model\.diffusion"):
        find_weights(twice)


def test_a_container_that_holds_itself_ends():
    stored = {"state_dict": PLAIN}
    stored["again"] = stored
    assert values(choose(find_weights(stored), None).weights) == values(PLAIN)
