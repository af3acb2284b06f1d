"""Benchmark of loading: clips per second, next to the bare decoding of the same pictures.

Both run in the same number of processes and take turns, so that what else the machine does meets
both. Each turn starts its own processes; their start is not counted, but reported.
"""

import multiprocessing
import os
import platform
import re
import resource
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from v2w_gym.configs.checks import DataBenchConfig
from v2w_gym.configs.clips import AugmentationConfig
from v2w_gym.configs.data import PrepareConfig
from v2w_gym.configs.published import PUBLISHED
from v2w_gym.configs.robots import GOOGLE_ROBOT
from v2w_gym.evaluation.checks.bench.recordings import RandomEpisodes
from v2w_gym.evaluation.compare.writing import table_of
from v2w_gym.world_models.data.clips.batches import ClipBatch, FrameReader, Places, load_batches
from v2w_gym.world_models.data.clips.order import TrainingOrder
from v2w_gym.world_models.data.prepared import PreparedData, open_prepared
from v2w_gym.world_models.data.preparing.prepare import prepare_source

AIM = 0.8
"""Share of the speed of bare decoding that loading should reach."""
AUGMENTED = 8
"""Share of the batches that are augmented, which takes more than ten times as long."""
PRIVATE = re.compile(r"^Private_\w+: +(\d+) kB", re.MULTILINE)


@dataclass(frozen=True)
class Turn:
    """What one turn took.

    Attributes:
        clips_per_second: Clips per second on the wall, once every process has begun.
        processor_seconds: Processor time of all processes for each clip, their start included.
        first: Seconds until the first batch, from nothing.
        worker_bytes: Memory that one process has for itself; None where the system does not say.
    """

    clips_per_second: float
    processor_seconds: float
    first: float
    worker_bytes: int | None = None


def run_data_bench(cfg: DataBenchConfig) -> dict[str, Any]:
    """Measure loading of frames as recorded, on the published model's canvas, and augmented.

    Returns:
        JSON values: the `subject`, whether all processes read the same batches (`exact`), and
        `rows`, empty unless they do.

    Raises:
        FileNotFoundError: No prepared data there.
        ValueError: Fewer batches than processes, damaged data, or clips longer than all episodes.
    """
    if cfg.quick:
        cfg = replace(cfg, batches=cfg.workers + 6, rounds=1)
    if cfg.batches <= cfg.workers:
        raise ValueError(
            f"expected more batches than workers, found {cfg.batches} and {cfg.workers}; set "
            f"batches={4 * cfg.workers}"
        )
    torch.set_num_threads(1)
    with _open_data(cfg) as data:
        order = TrainingOrder(data.lengths, cfg.clip_frames, cfg.seed)
        readers = _readers(data, cfg)
        exact = all(_is_exact(reader, order, cfg) for reader in readers.values())
        rows = list(measure(data, order, readers, cfg)) if exact else []
        return {"what": "data", "subject": _subject(data, cfg), "exact": exact, "rows": rows}


def to_text(report: Mapping[str, Any]) -> str:
    """Return what was found as text with one table."""
    subject = ", ".join(f"{name}: {value}" for name, value in report["subject"].items())
    verdict = "equal in this process and in others"
    if not report["exact"]:
        return f"{subject}\n\nbatches: DIFFERENT in other processes; no speed is reported"
    title = f"batches: {verdict}\nloading, and bare decoding of the same pictures (aim {AIM:.0%})"
    return f"{subject}\n\n{title}\n{table_of(report['rows'])}"


def measure(
    data: PreparedData,
    order: TrainingOrder,
    readers: Mapping[str, FrameReader],
    cfg: DataBenchConfig,
) -> Iterator[dict[str, Any]]:
    """Let each reader and bare decoding take turns, and yield a row for each reader."""
    for name, reader in readers.items():
        pairs, batches = [], cfg.batches
        if reader.augmentation is not None:
            batches = max(batches // AUGMENTED, cfg.workers + 1)
        for turn in tqdm(range(cfg.rounds), name, unit="round", leave=False):
            steps = range(turn * batches, (turn + 1) * batches)
            wanted = [order.batch(step, cfg.batch_size) for step in steps]
            pairs.append((decode_bare(data, wanted, cfg), load(reader, wanted, cfg.workers)))
        yield _row(name, pairs)


def load(reader: FrameReader, wanted: Sequence[Places], workers: int) -> Turn:
    """Load batches; timing begins when every process has returned its first one."""
    before, began = _processor_time(), time.perf_counter()
    arrived, memory = [], None
    with load_batches(reader, wanted, workers) as batches:
        for batch in batches:
            arrived.append(time.perf_counter())
            del batch
            if len(arrived) == len(wanted):  # the processes end after it
                memory = _private_memory()
    clips = len(wanted[0])
    return Turn(
        clips_per_second=clips * (len(wanted) - workers) / (arrived[-1] - arrived[workers - 1]),
        processor_seconds=(_processor_time() - before) / (clips * len(wanted)),
        first=arrived[0] - began,
        worker_bytes=memory,
    )


def decode_bare(data: PreparedData, wanted: Sequence[Places], cfg: DataBenchConfig) -> Turn:
    """Decode the pictures of all clips with Pillow alone; they lie in memory already."""
    clips = [
        data.pictures(place.episode, place.start, place.start + cfg.clip_frames)
        for places in wanted
        for place in places
    ]
    before, began = _processor_time(), time.perf_counter()
    with multiprocessing.Pool(cfg.workers, _keep, (clips,)) as pool:
        share = partial(pool.map, _decode, chunksize=cfg.batch_size)
        share(range(cfg.workers * cfg.batch_size))  # until every process has begun
        first = time.perf_counter()
        share(range(len(clips)))
        ended = time.perf_counter()
        pool.close()
        pool.join()
    decoded = len(clips) + cfg.workers * cfg.batch_size
    taken = (_processor_time() - before) / decoded
    return Turn(len(clips) / (ended - first), taken, first - began)


_clips: Sequence[Sequence[bytes]] = ()
"""The pictures of each clip, in the processes that decode."""


def _keep(clips: Sequence[Sequence[bytes]]) -> None:
    global _clips
    _clips = clips
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process handles Ctrl-C


def _decode(number: int) -> None:
    for picture in _clips[number]:
        np.asarray(Image.open(BytesIO(picture)))


def _readers(data: PreparedData, cfg: DataBenchConfig) -> dict[str, FrameReader]:
    plain = FrameReader(data, cfg.clip_frames)
    model = PUBLISHED.get(data.robot.name)
    placed = replace(plain, geometry=model.geometry if model else None)
    augmented = replace(placed, augmentation=AugmentationConfig())
    if placed == plain:
        return {"as recorded": plain, "augmented": augmented}
    return {"as recorded": plain, "on canvas": placed, "on canvas, augmented": augmented}


def _is_exact(reader: FrameReader, order: TrainingOrder, cfg: DataBenchConfig) -> bool:
    """Whether other processes read the same first batches as this one."""
    wanted = [order.batch(step, cfg.batch_size) for step in range(cfg.workers)]
    with load_batches(reader, wanted) as here, load_batches(reader, wanted, cfg.workers) as there:
        return all(_equal(*pair) for pair in zip(here, there, strict=True))


def _equal(one: ClipBatch, other: ClipBatch) -> bool:
    same = torch.equal(one.frames, other.frames)
    return same and torch.equal(one.actions.nan_to_num(9e9), other.actions.nan_to_num(9e9))


def _row(name: str, pairs: Sequence[tuple[Turn, Turn]]) -> dict[str, Any]:
    ratios = [ours.clips_per_second / bare.clips_per_second for bare, ours in pairs]
    memory = [ours.worker_bytes for _, ours in pairs if ours.worker_bytes is not None]
    bare, ours = zip(*pairs, strict=True)
    return {
        "clips": name,
        "clips_per_second": median(turn.clips_per_second for turn in ours),
        "bare_clips_per_second": median(turn.clips_per_second for turn in bare),
        "ratio": median(ratios),
        "lowest_ratio": min(ratios),
        "highest_ratio": max(ratios),
        "processor_ms": 1e3 * median(turn.processor_seconds for turn in ours),
        "bare_processor_ms": 1e3 * median(turn.processor_seconds for turn in bare),
        "first_batch_seconds": median(turn.first for turn in ours),
        "worker_mb": max(memory) / 1e6 if memory else None,
    }


@contextmanager
def _open_data(cfg: DataBenchConfig) -> Iterator[PreparedData]:
    """Yield the prepared data of the settings, or random ones in a temporary folder."""
    if cfg.data is not None:
        yield open_prepared(Path(cfg.data))
        return
    with TemporaryDirectory() as folder:
        output = f"{folder}/data"
        settings = PrepareConfig(
            source=".", output=output, robot=GOOGLE_ROBOT.name, pictures="jpeg", workers=1
        )
        yield prepare_source(RandomEpisodes(), settings)


def _processor_time() -> float:
    """Return the processor time of this process and of its finished children."""
    whose = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, whose))


def _private_memory() -> int | None:
    """Return the most memory that one child shares with no other process."""
    found = []
    for child in multiprocessing.active_children():
        path = Path(f"/proc/{child.pid}/smaps_rollup")
        if path.exists():
            sizes = PRIVATE.findall(path.read_text(encoding="ascii"))
            found.append(1024 * sum(map(int, sizes)))
    return max(found, default=None)


def _subject(data: PreparedData, cfg: DataBenchConfig) -> dict[str, Any]:
    height, width = data.robot.frame_size
    return {
        "data": data.name,
        "episodes": len(data),
        "frames": int(data.lengths.sum()),
        "mb": round(sum(path.stat().st_size for path in data.files) / 1e6),
        "clip": f"{cfg.clip_frames} x {height} x {width}",
        "batch_size": cfg.batch_size,
        "workers": cfg.workers,
        "rounds": f"{cfg.rounds} of {cfg.batches} batches",
        "cpus": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "torch": torch.__version__,
    }
