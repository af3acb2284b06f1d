"""Settings of policies: their YAML files, adapters and servers."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from v2w_gym.configs.action_layouts import GripperName, RotationName
from v2w_gym.configs.robots import LayoutName
from v2w_gym.configs.rules import Frames, Name, PathText, Pixels, Range, Rate
from v2w_gym.configs.values import Settings


@dataclass(frozen=True)
class ProcessingConfig(Settings):
    """Preprocessing of frames for a policy, and postprocessing of its actions for a robot.

    Attributes:
        crop: How frames are cropped first. none refuses frames with black bars. bars cuts off the
            black columns on the left and right of Vid2World's 320 x 512 frames. keep_bars cuts
            nothing, and the policy gets the bars.
        resize: How frames are resized to the policy's size: bilinear (tf.image.resize, rounded),
            bilinear_trunc (the same, truncated to integers as in SimplerEnv's RT-1), lanczos3
            (tf.image.resize with antialias, as in Octo and OpenVLA), or resize_with_pad (black
            margins instead of distortion, as in openpi).
        stretch: Whether a frame of another aspect ratio may be stretched to the policy's size;
            otherwise it is an error.
        any_rate: Whether a policy may act at another control rate than it was made for; otherwise
            it is an error, because its steps then mean other speeds.
        scale: Factor of the hand's displacement.
        sticky: Steps for which a change of an absolute gripper is repeated; 15 in SimplerEnv.
        gripper_deadband: Smaller relative gripper values become 0. SimplerEnv uses 0.01 for RT-1,
            whose token nearest to 0 means -0.0039.
        execution_horizon: Actions of a chunk to execute before the next request; 0 for the
            policy's own number, or the whole chunk if it has none.
        ensemble: Temporal ensembling: request a chunk in every step and average all chunks'
            actions for it, as in ACT and Octo. The oldest has weight 1, one that is i steps newer
            exp(-ensemble * i), so 0 is the mean and a negative number favours the newest. Null for
            the policy's own way, or for none if it has none or execution_horizon is set.
        terminate: What to do when the policy ends the episode: stop, or ignore.
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
    """Requests to a policy server. The server's metadata fills the settings that are null.

    Attributes:
        layout: Layout of its actions; a key of `v2w_gym.configs.robots.ACTION_LAYOUTS`.
        chunk: Actions in one response.
        image_size: Height and width of the frames in a request; any size if the server is silent.
        control_hz: Actions per second that it was made for; any rate if the server is silent.
        gripper: relative, absolute or none; the layout's if the server is silent.
        rotation: rpy, axis_angle or none; the layout's if the server is silent.
        stateless: Whether a response depends on its request alone, so that a lost request may be
            sent again; false if the server is silent.
        image_key: Name of the frame in a request.
        prompt_key: Name of the instruction in a request.
        api_key_variable: Environment variable that holds the server's API key; null for none.
        proxy: URL of an HTTP proxy to the server; null for a direct connection, even if the
            environment names a proxy.
        timeout_s: Seconds to wait for a response; the first one may include compilation.
        reconnects: Attempts to reconnect to a stateless server, after 0.5, 1, 2, ... seconds.
        probe: Whether to send a request with a black frame when the policy is loaded, to find
            missing inputs before the first rollout.
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
    """A LeRobot policy: its action layout, and its inputs.

    Attributes:
        layout: Layout of its actions; a key of `v2w_gym.configs.robots.ACTION_LAYOUTS`.
        gripper: relative, absolute, closedness, signed, signed_closedness or none; empty for the
            layout's. See `v2w_gym.configs.action_layouts.GRIPPER_RANGES`.
        rotation: rpy, axis_angle or none; empty for the layout's.
        control_hz: Actions per second that it was trained with; null for any rate.
        image_key: The input that gets the camera's frame.
        whole_chunks: Whether to call `predict_action_chunk` for whole chunks, or `select_action`
            for one action at a time. Policies with a history of frames need `select_action`.
        zero_state: Give zeros for the robot's joints, which no frame shows; only for a policy that
            was trained without them.
        inputs: Constants for its other inputs, such as a second camera, by name; as in
            `v2w_gym.policies.processing.constants`.
        chunk: Actions of a whole chunk; null for the number in the policy's own config.
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
    """A policy file. Commands take its path in place of a name: `policies=[zero, mine.yaml]`.

    Attributes:
        source: A bundled name, a checkpoint (.safetensors), a recorded episode to replay (.npz or
            SOURCE#0), a server (ws://host:port), or the folder of a TensorFlow SavedModel.
        name: Label in tables and plots; null for the policy's own.
        instructions: Table of instruction embeddings (.safetensors) as `v2w embed` writes it; null
            for the one in the checkpoint. A SavedModel needs one.
        python: Python interpreter that has TensorFlow, for a SavedModel; null for the one in
            V2W_TF_PYTHON, or this one.
        device: Device of a checkpoint's network, such as cuda.
        inputs: Constants for a server's inputs besides frame and instruction: name -> numbers,
            {zeros: [sizes]}, {image: [height, width]} or {image: file}.
        remote: See `RemoteConfig`.
        driver: Preprocessing and postprocessing; see `ProcessingConfig`.
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
    """A policy server.

    Attributes:
        policy: Name, path or policy file (written policy=mine.yaml). The server ignores the file's
            `driver` settings; those of the client count.
        robot: Name of the `RobotSpec` that the policy acts on.
        host: Address to listen at. 0.0.0.0, or :: with IPv6, admits other machines, without
            authentication.
        port: Port to listen at; 0 for any free one.
        connections: Most connections at once; each has its own policy.
        client_timeout_s: Seconds for which a client, such as a busy simulator, may leave pings
            unanswered; then the server closes its connection.
    """

    policy: PathText
    robot: str = "standin_sawyer"
    host: str = "127.0.0.1"
    port: Annotated[int, Range(0, 65_535)] = 8000
    connections: Annotated[int, Range(1, 10_000)] = 64
    client_timeout_s: Annotated[float, Range(0.1, 1e6)] = 1800.0
