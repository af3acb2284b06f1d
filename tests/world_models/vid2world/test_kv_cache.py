import torch

from v2w_gym.world_models.state import leaves
from v2w_gym.world_models.vid2world.kv_cache import KVCache


def test_a_cache_evicts_its_oldest_frame_and_appends_the_newest():
    def cache(*values):
        column = torch.tensor(values, dtype=torch.float32)[None, :, None]  # (1, L, 1)
        return KVCache((column[None, :, -2:],), (column,), (column,), (), column)

    longer = cache(1, 2, 3).evict().append(cache(4))
    assert longer.capacity == 3
    assert [x.flatten().tolist() for x in leaves(longer)] == [
        [3, 4],
        [2, 3, 4],
        [2, 3, 4],
        [2, 3, 4],
    ]


def test_a_padded_cache_has_zeros_in_front():
    column = torch.tensor([7.0])[None, :, None]
    padded = KVCache((column,), (column,), (column,), (), column).padded(3)
    assert padded.capacity == 3 and padded.keys[0].flatten().tolist() == [0, 0, 7]
    assert padded.conv_inputs[0].flatten().tolist() == [0, 7]  # two frames are enough
