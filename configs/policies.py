"""How policies are reached, served and put on a robot; what their YAML files say."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from v2w_gym.configs.action_layouts import GripperName, RotationName
from v2w_gym.configs.robots import LayoutName
from v2w_gym.configs.rules import Frames, Name, PathText, Pixels, Range, Rate
from v2w_gym.configs.values import Settings


@dataclass(frozen=True)
class ProcessingConfig(Settings):
    """How frames are preprocessed for a policy, and its actions postprocessed for a robot.

    Attributes:
        crop: What is cut off a frame first: none; bars, which are the black columns that
            Vid2World's 320 x 512 frames have left and right; or keep_bars, which cuts nothing and
            shows the policy black bars that are refused otherwise.
        resize: How frames get the policy's size: bilinear (tf.image.resize, rounded),
            bilinear_trunc (the same, cut to integers as SimplerEnv does for RT-1), lanczos3
            (tf.image.resize with antialias, as Octo and OpenVLA are shown frames), or
            resize_with_pad (without distortion, with black margins, as policies of openpi are).
        stretch: Whether a frame of another aspect ratio may be stretched to the policy's size;
            refused unless asked for.
        any_rate: Whether a policy made for another number of actions per second than the robot's
            may act on it; refused unless asked for, as its steps then mean other speeds.
        scale: What the hand's displacement is multiplied by.
        sticky: Steps for which a change of an absolute gripper is sent on; SimplerEnv takes 15.
        gripper_deadband: A relative gripper value smaller than this is 0; SimplerEnv takes 0.01 for
            RT-1, whose nearest token to 0 means -0.0039.
        execution_horizon: Actions of a chunk that are carried out before the policy is asked again;
            0 for as many as its makers carry out, which is all of them unless the policy says so.
        ensemble: Ask in every step and average what all chunks say of it, the oldest weighing 1 and
            one that is i steps younger exp(-ensemble * i), as in ACT and Octo: 0 is their mean, a
            negative number favours the newest; null for what the policy's makers do, which is no
            averaging unless the policy says so, or if execution_horizon is set.
        terminate: What happens when the policy ends the episode: stop, or ignore.
    """

    crop: str = "none"
    resize: str = "bilinear"
    stretch: bool = False
    any_rate: bool = False
    scale: Annotated[float, Range(0, 1000)] = 1.0
    sticky: Frames = 1
    gripper_deadband: Annotated[float, Range(0, 1000)] = 0.0
    execution_horizon: Annotated[int, Range(0, 100_000)] = 0
    ensemble: Annotated[float, Range(-1e6, 1e6)] | None = None
    terminate: str = "stop"


@dataclass(frozen=True)
class RemoteConfig(Settings):
    """How a policy server is asked. What is null is taken from what the server announces.

    Attributes:
        layout: What its actions are; a key of `v2w_gym.configs.robots.ACTION_LAYOUTS`.
        chunk: Actions in one answer.
        image_size: Height and width of the frames it is sent; null in both places for any size.
        control_hz: Actions per second it was made for; null in both places for any rate.
        gripper: relative, absolute or none; null in both places for what the layout says.
        rotation: rpy, axis_angle or none; null in both places for what the layout says.
        stateless: Whether an answer depends on its request alone, so that one that was lost may be
            asked for again; null in both places for no.
        image_key: Name of the frame in a request.
        prompt_key: Name of the instruction in a request.
        api_key_variable: Environment variable that holds the server's API key; null for none.
        proxy: URL of the HTTP proxy on the way to the server; null for a direct connection,
            whatever proxy the environment names.
        timeout_s: Seconds within which an answer must come; the first one may include compilation.
        reconnects: Attempts to reach a stateless server that is gone, after 0.5, 1, 2, ... seconds.
        probe: Whether a server is asked about a black frame as soon as it is loaded, so that what
            is missing in a request is said before the first rollout.
    """

    layout: LayoutName | None = None
    chunk: Annotated[int, Range(1, 10_000)] | None = None
    image_size: tuple[Pixels, Pixels] | None = None
    control_hz: Rate | None = None
    gripper: GripperName | None = None
    rotation: RotationName | None = None
    stateless: bool | None = None
    image_key: str = "observation/image"
    prompt_key: str = "prompt"
    api_key_variable: str | None = None
    proxy: str | None = None
    timeout_s: Annotated[float, Range(0.001, 86_400)] = 120.0
    reconnects: Annotated[int, Range(0, 100)] = 4
    probe: bool = True


@dataclass(frozen=True)
class LeRobotConfig(Settings):
    """What its actions mean, and how it is asked.

    Attributes:
        layout: What its actions are; a key of `v2w_gym.configs.robots.ACTION_LAYOUTS`.
        gripper: relative, absolute, closedness, signed, signed_closedness or none; empty for what
            the layout says. See `v2w_gym.configs.action_layouts.GRIPPER_RANGES`.
        rotation: rpy, axis_angle or none; empty for what the layout says.
        control_hz: Actions per second it was trained with; None for any rate.
        image_key: Which of its inputs the camera's frame is.
        whole_chunks: Whether it is asked for all actions of a chunk (`predict_action_chunk`) or for
            one at a time (`select_action`), as those that remember earlier frames must be.
        zero_state: Give zeros where it wants the robot's joints, which no frame tells; only for a
            policy that was trained to do without.
        inputs: Constants for its other inputs, such as a second camera, by name; as in
            `v2w_gym.policies.processing.constants`.
        chunk: Actions of a whole chunk; None for what its own config says.
    """

    layout: LayoutName
    gripper: GripperName = ""
    rotation: RotationName = ""
    control_hz: Rate | None = None
    image_key: str = "observation.image"
    whole_chunks: bool = True
    zero_state: bool = False
    inputs: dict[str, Any] = field(default_factory=dict, hash=False)
    chunk: Annotated[int, Range(1, 10_000)] | None = None


@dataclass(frozen=True)
class PolicyConfig(Settings):
    """One policy. `v2w rank 'policies=[zero, mine.yaml]'` takes such a file like any name.

    Attributes:
        source: A bundled name, a checkpoint (.safetensors), a recorded episode to replay (.npz), a
            server (ws://host:port), or the folder of a TensorFlow SavedModel.
        name: Label in tables and plots; null for the policy's own.
        instructions: Table of instruction embeddings (.safetensors) as `v2w embed` writes it; null
            for the one in the checkpoint. A SavedModel needs one.
        python: Python interpreter that has TensorFlow, for a SavedModel; null for the one that
            V2W_TF_PYTHON names, or this one.
        device: Where a checkpoint's network runs, such as cuda.
        inputs: What a policy in a server needs besides a frame and an instruction, as constants:
            name -> numbers, {zeros: [sizes]}, {image: [height, width]} or {image: file}.
        remote: See `RemoteConfig`.
        driver: Pre- and postprocessing, see `ProcessingConfig`.
    """

    source: PathText
    name: Name | None = None
    instructions: PathText | None = None
    python: PathText | None = None
    device: str = "cpu"
    inputs: dict[str, Any] = field(default_factory=dict)
    remote: RemoteConfig = field(default_factory=RemoteConfig)
    driver: ProcessingConfig = field(default_factory=ProcessingConfig)


@dataclass(frozen=True)
class ServePolicyConfig(Settings):
    """Which policy is served, and to whom.

    Attributes:
        policy: Name, path or policy file (written policy=mine.yaml); its driver settings are
            the client's business and do not count here.
        robot: Name of the `RobotSpec` whose actions the policy gives.
        host: Address to listen at; 0.0.0.0, or :: with IPv6, lets other machines in, and nobody is
            asked for a name.
        port: Port to listen at; 0 for any that is free.
        connections: Most connections at once; each has a policy of its own.
        client_timeout_s: Seconds for which a client may leave pings unanswered, as a simulator does
            that stalls or loads; then its connection ends and its place is free.
    """

    policy: PathText
    robot: str = "standin_sawyer"
    host: str = "127.0.0.1"
    port: Annotated[int, Range(0, 65_535)] = 8000
    connections: Annotated[int, Range(1, 10_000)] = 64
    client_timeout_s: Annotated[float, Range(0.1, 1e6)] = 1800.0
