"""Take starts from recorded data: a start file, its manifest and its contact sheet.

The same command gives the same bytes in any folder, and on any machine with the same versions of
NumPy, Pillow and zlib.
"""

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from v2w_gym.configs.data import StartsConfig
from v2w_gym.configs.names import lookup
from v2w_gym.configs.robots import ROBOTS, RobotSpec
from v2w_gym.evaluation.starts.contact_sheet import draw_sheet
from v2w_gym.evaluation.starts.manifest import (
    Manifest,
    check_free,
    describe,
    identify,
    load_manifest,
)
from v2w_gym.world_models.data.decoding.arrays import LARGEST
from v2w_gym.world_models.data.recorded_actions import NO_MISFITS, warn_of
from v2w_gym.world_models.data.sources.base import Source
from v2w_gym.world_models.data.sources.selection import open_selected, select
from v2w_gym.world_models.data.starts.choosing import (
    Filters,
    check_some,
    choose_places,
    choose_step,
    draw_order,
    to_pattern,
)
from v2w_gym.world_models.data.starts.cutting import CutStart, cut_start
from v2w_gym.world_models.data.starts.files import StartFile, save_starts
from v2w_gym.world_models.data.starts.places import Facts, Place
from v2w_gym.world_models.files import check_writable, replacing

DELAY = 1
"""Seconds before a bar is shown."""


@dataclass(frozen=True)
class Paths:
    """The files of one command."""

    starts: Path
    manifest: Path
    sheet: Path


def paths_of(output: str) -> Paths:
    """Return the files that `output` names, with or without its ending."""
    stem = output.removesuffix(".npz")
    return Paths(*(Path(f"{stem}.{ending}") for ending in ("npz", "json", "png")))


def take_starts(cfg: StartsConfig) -> StartFile:
    """Write the starts that the settings choose; the same command may be repeated.

    Raises:
        FileNotFoundError: No such data, list of ids or manifest.
        ModuleNotFoundError: The format needs an extra that is not installed.
        OSError: The folder cannot be written.
        ValueError: A choice that the data do not meet, episodes that do not fit the robot, or files
            of another command. Nothing is written then.
    """
    earlier = None if cfg.repeat is None else load_manifest(cfg.repeat)
    cfg = cfg if earlier is None else earlier.config(cfg)
    paths, source = paths_of(cfg.output), open_selected(cfg)
    robot = _find_robot(cfg, source)
    identity = identify(cfg, source)
    check_free(paths.manifest, (paths.starts, paths.sheet), identity)
    candidates = _candidates(cfg, source, earlier)
    places = _choose(cfg, candidates, robot.name, earlier)
    _check_size(len(places), cfg.context_frames, robot)
    cuts = _read(cfg, candidates, places, robot)
    starts = [cut.start for cut in cuts]
    if earlier:
        earlier.check(starts)
    corrected = sum((cut.misfits for cut in cuts), NO_MISFITS)
    warn_of(corrected, source.name)
    file = StartFile(starts, robot.name, cuts[0].camera, source.name)
    found = describe(file, str(corrected), cuts[0].at_rest)
    _save(paths, file, {**identity, **found}, _subtitle(cfg, file))
    return file


def describe_count(file: StartFile) -> str:
    """Say how many starts there are."""
    count = len(file.starts)
    return f"{count:,} start{'s' * (count > 1)} of {file.robot}"


def _find_robot(cfg: StartsConfig, source: Source) -> RobotSpec:
    """Return the robot that is named, or the one that the first episode names."""
    first = next(iter(source.read(0, 1)), None)
    if first is None:
        raise ValueError(f"expected episodes in {source.name}, found none")
    name = cfg.robot or first.robot
    if name is None:
        raise ValueError(
            f"expected robot= to name the robot, which {source.name} does not say, found none; "
            f"there are {', '.join(ROBOTS)}"
        )
    return lookup(ROBOTS, name, "robot")


def _candidates(cfg: StartsConfig, source: Source, earlier: Manifest | None) -> Source:
    """Return the source, or only the episodes of it that are taken, where their ids say which.

    Then the others need not be read, which may be a hundred gigabytes.
    """
    if earlier:
        return select(source, [start.id for start in earlier.starts])
    if cfg.choose != "random" or cfg.n is None or _filters(cfg) != Filters():
        return source
    return select(source, draw_order(source.ids(), cfg.seed)[: cfg.n])


def _choose(cfg: StartsConfig, source: Source, robot: str, earlier: Manifest | None) -> list[Place]:
    """Return the frames with which rollouts begin."""
    listed = _list(cfg, source)
    if earlier:
        by_id = {episode.id: episode for episode in listed}
        chosen = [Place(by_id[start.id], start.frame) for start in earlier.starts]
    else:
        chosen = choose_places(listed, cfg.choose, cfg.n, cfg.seed, robot)
    at = None if earlier else cfg.at
    return [
        replace(place, step=choose_step(place, at, cfg.seed, cfg.context_frames))
        for place in chosen
    ]


def _filters(cfg: StartsConfig) -> Filters:
    pattern = None if cfg.instruction is None else to_pattern(cfg.instruction)
    return Filters(pattern, cfg.min_frames)


def _list(cfg: StartsConfig, source: Source) -> list[Facts]:
    """Return the episodes that may be chosen; reading ends once the first n are found."""
    filters, enough = _filters(cfg), cfg.n if cfg.choose == "first" else None
    seen, accepted = list[Facts](), list[Facts]()
    with tqdm(total=len(source), desc="listing", unit="episode", leave=False, delay=DELAY) as bar:
        for number, episode in enumerate(source.read()):
            seen.append(Facts(number, episode.id, len(episode), episode.instruction))
            if filters.accept(seen[-1]):
                accepted.append(seen[-1])
            bar.update()
            if len(accepted) == enough:
                break
    check_some(accepted, seen, filters)
    return accepted


def _check_size(count: int, context_frames: int, robot: RobotSpec) -> None:
    size = count * context_frames * math.prod(robot.frame_size) * 3
    if size > LARGEST:
        raise ValueError(
            f"expected starts of at most {LARGEST / 2**30:g} GiB, found {count:,} of "
            f"{context_frames} frames, {size / 2**30:,.1f} GiB; lower n or context_frames"
        )


def _read(
    cfg: StartsConfig, source: Source, places: Sequence[Place], robot: RobotSpec
) -> list[CutStart]:
    """Return the starts, which are read in the order of the source."""
    found: dict[int, CutStart] = {}
    in_order = sorted(places, key=lambda place: place.episode.number)
    for place in tqdm(in_order, desc="reading", unit="start", leave=False, delay=DELAY):
        number = place.episode.number
        (episode,) = source.read(number, number + 1)
        try:
            found[number] = cut_start(episode, place.step, cfg.context_frames, robot, cfg)
        except ValueError as error:
            raise ValueError(f"episode {episode.id!r} of {source.name}: {error}") from error
    return [found[place.episode.number] for place in places]


def _subtitle(cfg: StartsConfig, file: StartFile) -> str:
    """Say where the starts come from and how they were chosen."""
    parts = [file.source]
    if file.camera:
        parts.append(f"camera {file.camera}")
    if cfg.instruction is not None:
        parts.append(f"instruction matches {cfg.instruction!r}")
    if cfg.choose == "random":
        parts.append(f"drawn with seed {cfg.seed}")
    if cfg.choose == "published":
        parts.append("as published")
    if cfg.context_frames > 1:
        parts.append(f"{cfg.context_frames} frames each, the newest one shown")
    return " · ".join(parts)


def _save(paths: Paths, file: StartFile, manifest: Mapping[str, Any], subtitle: str) -> None:
    """Write all three files, then give them their names; the manifest gets its name first.

    So the manifest tells whose files they are also if the command is killed in between.
    """
    check_writable(paths.starts.parent)
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    with ExitStack() as stack:
        sheet, starts, listed = (
            stack.enter_context(replacing(path))
            for path in (paths.sheet, paths.starts, paths.manifest)
        )
        Image.fromarray(draw_sheet(file.starts, describe_count(file), subtitle)).save(sheet, "PNG")
        save_starts(starts, file)
        listed.write_text(text, encoding="utf-8")
