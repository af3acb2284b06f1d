"""Settings of `v2w prepare`, `v2w starts` and `v2w show`."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from v2w_gym.configs.rules import (
    Amount,
    Frames,
    PathText,
    Range,
    Rate,
    Seed,
    Share,
    Threads,
    Window,
)
from v2w_gym.configs.values import Settings


@dataclass(frozen=True)
class SourceSettings(Settings):
    """The choice of recorded data.

    Attributes:
        source: File or folder; the name of a split may follow a colon: "FOLDER:train[:1000]".
        format: Format of the data; "" for the one that recognises the path.
        fields: Name of a known data set, or a YAML file with the names of its fields; "" for what
            is known of the data set. See `v2w_gym.configs.sources.SourceFields`.
        camera: Name of the camera; "" for the default one.
        ids: Names of the episodes to read, or files that list them; empty for all. Such a file is
            a JSON list, a .txt with one name a line, or a manifest of `v2w starts`.
        excluded: Names of the episodes to leave out, or files that list them.
    """

    source: PathText
    format: str = ""
    fields: str = ""
    camera: str = ""
    ids: list[str] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FitSettings(Settings):
    """How recordings are fitted to a robot.

    Attributes:
        fit: Crop and resize frames whose size is not the robot's.
        rate: Frames per second of the recordings; null for what the source says.
        action_shift: Steps by which actions are recorded late: frame t gets the action that is
            stored at t + action_shift. Negative if they are early. `v2w show` detects it.
        scale: Action field -> factor that turns its values into the robot's units, as in
            {world_vector: 0.001}.
    """

    fit: bool = False
    rate: Rate | None = None
    action_shift: Annotated[int, Range(-100, 100)] = 0
    scale: dict[str, Annotated[float, Range(-1e6, 1e6)]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PrepareConfig(FitSettings, SourceSettings):
    """Conversion of recorded data to one format, which is checked once and streams.

    Attributes:
        output: Folder to write, a LeRobot data set; the same command resumes there.
        robot: Name of the robot that was recorded.
        limit: Most episodes to read, from the first; null for all.
        pictures: How frames are stored. copy keeps the source's own JPEG or PNG files, and stores
            other frames as png; png is exact; jpeg is smaller.
        quality: Quality of jpeg.
        file_mb: Size at which a new data file begins, in MB.
        workers: Processes that read and check; null for one on each CPU, 16 at most. The result is
            the same.
    """

    output: PathText
    robot: str
    limit: Annotated[int, Range(1, 1_000_000_000)] | None = None
    pictures: Literal["copy", "png", "jpeg"] = "copy"
    quality: Annotated[int, Range(1, 100)] = 95
    file_mb: Annotated[float, Range(0.001, 10_000)] = 100
    workers: Threads | None = None


@dataclass(frozen=True, kw_only=True)
class ShowConfig(SourceSettings):
    """Recorded data to describe, and the pictures of it.

    Attributes:
        output: Folder for the pictures.
        robot: Name of the robot whose bounds are compared; "" for what the data says.
        rate: Frames per second; null for what the data says.
        episodes: Most episodes to read, evenly spread.
        pictured: Episodes in the pictures, evenly spread; 0 for no pictures.
        json: Print one JSON object instead of text.
    """

    output: PathText = "runs/show"
    robot: str = ""
    rate: Rate | None = None
    episodes: Amount = 200
    pictured: Annotated[int, Range(0, 100)] = 6
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class StartsConfig(FitSettings, SourceSettings):
    """Start frames to take from recorded data.

    Attributes:
        output: Start file (.npz) to write; a manifest (.json) and a contact sheet (.png) of the
            same name go beside it.
        robot: Name of the robot that was recorded; null for the one that the data name.
        instruction: Regular expression that occurs in the instruction; null for any.
        min_frames: Fewest frames of an episode; shorter ones are left out.
        n: Number of starts; null for all.
        choose: first takes the first n; random draws n by seed and id; published takes those of
            the published evaluation of the robot's world model.
        seed: Seed of random.
        at: Frame with which a rollout begins: a number, from the end if negative; a share of the
            episode, such as 0.5; or random. null is the first one with enough frames before it.
        context_frames: Frames of a start; those after the first come with the actions before them.
        repeat: Manifest (.json) of starts to take again; frames whose sha256 differs are refused.
    """

    output: PathText
    robot: str | None = None
    instruction: str | None = None
    min_frames: Frames = 1
    n: Amount | None = None
    choose: Literal["first", "random", "published"] = "first"
    seed: Seed = 0
    at: Annotated[int, Range(-1_000_000, 1_000_000)] | Share | Literal["random"] | None = None
    context_frames: Window = 1
    repeat: PathText | None = None
