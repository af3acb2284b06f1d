"""Pass the newest frame alone through the network: what every denoising step does."""

from typing import NamedTuple

from torch import Tensor

from v2w_gym.world_models.captured_graph import Replay
from v2w_gym.world_models.nested import Nested
from v2w_gym.world_models.vid2world.conditioning import ContextKeys
from v2w_gym.world_models.vid2world.temporal import Memory, Newest, Past
from v2w_gym.world_models.vid2world.unet import UNet


class Inputs(NamedTuple):
    """What the network is given of one frame of B rollouts, in G branches.

    Attributes:
        noisy: (B, 1, C, h, w) latents.
        frame: (B, 1, C, h, w) clean latent of the conditioning frame.
        shifts: See `UNet.shifts`; (G B, C') each.
        context: See `UNet.context_keys`; of G B rollouts.
        past: What is known of the frames before.
    """

    noisy: Tensor
    frame: Tensor
    shifts: tuple[Tensor, ...]
    context: tuple[ContextKeys, ...]
    past: Past


class NewestFrame:
    """The network over one frame of each rollout, recorded once it is asked often.

    A recording passes no Python and holds the weights it was made with: nothing is replayed for a
    network that is being trained, whose layers somebody hooks into, or whose weights are others.
    """

    def __init__(self, unet: UNet) -> None:
        """Wrap a network."""
        self._unet = unet
        self._layers = tuple(unet.modules())
        self._to_velocity = Replay(self._denoise)
        self._to_memory = Replay(self._note)

    def velocity(self, inputs: Inputs) -> Tensor:
        """Return the velocity (G B, 1, C, h, w)."""
        if not self._is_settled:
            return self._pass(inputs)[0]
        velocity: Tensor = self._to_velocity(inputs, self._weights)[0]
        return velocity

    def memory(self, inputs: Inputs) -> Memory:
        """Return what the frame leaves behind for those that follow; G is 1."""
        if not self._is_settled or inputs.noisy.is_cuda:  # there it would hold a second copy
            return self._note(inputs)
        return Memory(*self._to_memory(inputs, self._weights))

    @property
    def _is_settled(self) -> bool:
        if self._unet.training or self._unet.conv_in.weight.requires_grad:
            return False
        return not any(layer._forward_hooks or layer._forward_pre_hooks for layer in self._layers)

    @property
    def _weights(self) -> int:
        layers = (layer._parameters.values() for layer in self._layers)
        return hash(tuple(w.data_ptr() for weights in layers for w in weights if w is not None))

    def _denoise(self, inputs: Nested) -> Nested:
        return (self._pass(Inputs(*inputs))[0],)

    def _note(self, inputs: Nested) -> Memory:
        velocity, newest = self._pass(Inputs(*inputs))
        return newest.notes.memory(velocity.float())

    def _pass(self, inputs: Inputs) -> tuple[Tensor, Newest]:
        newest = Newest(inputs.past)
        velocity = self._unet.run(inputs.noisy, inputs.frame, inputs.shifts, inputs.context, newest)
        return velocity, newest
