"""Reading and checking of episodes in several processes, in the order of the source."""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from multiprocessing.connection import Connection
from typing import TypeAlias

from v2w_gym.configs.data import PrepareConfig
from v2w_gym.configs.names import lookup
from v2w_gym.configs.robots import ROBOTS
from v2w_gym.configs.text import printable
from v2w_gym.world_models.data.preparing.episodes import DAMAGED, ReadyEpisode, ready_episode
from v2w_gym.world_models.data.preparing.report import LeftOut
from v2w_gym.world_models.data.sources.base import Source
from v2w_gym.world_models.data.sources.selection import open_selected

JOB_BYTES = 8 * 2**20
"""Bytes of pictures that a process should return at a time."""
JOB_EPISODES = 64
"""Most episodes that a process returns at a time."""
JOBS_AHEAD = 2
"""Jobs of each process that are begun and not yet taken."""
MISSING = "missing file"
"""Kind of the episodes of which a file is not there."""

Outcome: TypeAlias = ReadyEpisode | LeftOut


def read_outcomes(
    source: Source, cfg: PrepareConfig, start: int, stop: int, workers: int
) -> Iterator[Outcome]:
    """Yield the episodes from number `start` up to `stop`, ready to be written, in order.

    Args:
        source: The source; other processes open their own.
        cfg: The settings.
        start: Number of the first episode.
        stop: Number after the last one.
        workers: Number of processes; 1 works in this one.

    Raises:
        ChildProcessError: A process was ended from outside.
        OSError: The source cannot be read.
    """
    if workers == 1:
        yield from _outcomes(source, cfg, start, stop)
    elif start < stop:
        with _started(cfg, workers) as pipes:
            yield from _in_order(pipes, start, stop)


def _in_order(pipes: Sequence[Connection], start: int, stop: int) -> Iterator[Outcome]:
    """Give jobs to each process in turn, and take what they return in the same turn."""
    turn, waiting, size = cycle(pipes), deque[Connection](), 1
    while start < stop or waiting:
        while start < stop and len(waiting) < JOBS_AHEAD * len(pipes):
            waiting.append(next(turn))
            end = min(start + size, stop)
            with _expecting_life():
                waiting[-1].send((start, end))
            start = end
        outcomes = _receive(waiting.popleft())
        size = _job_size(outcomes)
        yield from outcomes


def _job_size(outcomes: Sequence[Outcome]) -> int:
    """Return how many such episodes have about `JOB_BYTES`, so that memory stays bounded."""
    found = sum(outcome.nbytes for outcome in outcomes if isinstance(outcome, ReadyEpisode))
    return max(1, min(JOB_EPISODES, JOB_BYTES * len(outcomes) // max(found, 1)))


def _receive(pipe: Connection) -> list[Outcome]:
    with _expecting_life():
        found = pipe.recv()
    if isinstance(found, Exception):
        raise found
    return list(found)


@contextmanager
def _expecting_life() -> Iterator[None]:
    """Turn an error of a pipe into one about the process at its other end."""
    try:
        yield
    except (EOFError, ConnectionError) as error:
        raise ChildProcessError(
            "expected every process to live, found that one was ended, perhaps for lack of "
            "memory; run the same command with fewer workers=..., it continues where it was"
        ) from error


@contextmanager
def _started(cfg: PrepareConfig, workers: int) -> Iterator[list[Connection]]:
    """Start processes, and yield a pipe to each; they end with the block, or with this process."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    try:
        for _ in range(workers):
            ours, theirs = context.Pipe()
            pipes.append(ours)
            processes.append(context.Process(target=_work, args=(theirs, cfg), daemon=True))
            processes[-1].start()
            theirs.close()
        yield pipes
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _work(pipe: Connection, cfg: PrepareConfig) -> None:
    """Answer jobs until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the processes share the CPUs
    try:
        source = open_selected(cfg)
        while True:
            pipe.send(list(_outcomes(source, cfg, *pipe.recv())))
    except (EOFError, ConnectionError):
        return  # the parent process has ended
    except (ValueError, OSError, ModuleNotFoundError) as error:
        pipe.send(error)


def _outcomes(source: Source, cfg: PrepareConfig, start: int, stop: int) -> Iterator[Outcome]:
    """Yield the outcome of each episode; after a damaged one, reading begins again."""
    robot = lookup(ROBOTS, cfg.robot, "robot")
    number, episodes = start, source.read(start, stop)
    while number < stop:
        try:
            yield ready_episode(next(episodes), number, robot, cfg)
        except StopIteration:
            yield LeftOut(number, "", DAMAGED, f"expected an episode in {source.name}, found none")
        except ValueError as error:
            yield LeftOut(number, "", DAMAGED, printable(str(error)))
            episodes = source.read(number + 1, stop)
        except FileNotFoundError as error:
            if not all(path.exists() for path in source.files[:1]):
                raise  # the whole data set is gone, as when a disk is no longer mounted
            yield LeftOut(number, "", MISSING, printable(str(error)))
            episodes = source.read(number + 1, stop)
        number += 1
