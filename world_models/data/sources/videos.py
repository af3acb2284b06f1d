"""The source of videos: .mp4 files, without actions."""

from pathlib import Path

from v2w_gym.world_models.data.episode import Episode
from v2w_gym.world_models.data.sources.base import Wanted
from v2w_gym.world_models.data.sources.episode_files import EpisodeFiles, open_files
from v2w_gym.world_models.data.videos import VideoFrames

ENDING = ".mp4"


def recognises(path: Path) -> bool:
    """Whether a path is an .mp4 file."""
    return path.is_file() and path.suffix.lower() == ENDING


def open_videos(path: Path, wanted: Wanted) -> EpisodeFiles:
    """Open a video.

    Raises:
        ValueError: As for `open_files`.
    """
    return open_files(path, [path], wanted, read_video)


def read_video(path: Path, name: str) -> Episode:
    """Return a video, with `name` as its id.

    Raises:
        ValueError: A damaged file.
    """
    frames = VideoFrames(path)
    return Episode(name, frames, rate=frames.rate)
