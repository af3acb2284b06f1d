"""Only some episodes of a source, by name: those of a published split, or all the others."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from v2w_gym.configs.data import SourceSettings
from v2w_gym.configs.names import hint
from v2w_gym.configs.text import to_path
from v2w_gym.world_models.data.episode import Episode
from v2w_gym.world_models.data.sources.base import Source
from v2w_gym.world_models.data.sources.opening import open_source


@dataclass(frozen=True)
class Selection:
    """Some episodes of a source, in its order.

    Attributes:
        source: The source.
        numbers: Numbers of the selected episodes in the source, rising.
    """

    source: Source
    numbers: tuple[int, ...]

    @property
    def name(self) -> str:
        """The source's name, and the share of its episodes."""
        return f"{self.source.name}, {len(self)} of {len(self.source)} episodes"

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of the whole source."""
        return self.source.files

    def __len__(self) -> int:
        """Return the number of selected episodes."""
        return len(self.numbers)

    def ids(self) -> Sequence[str]:
        """Return the names of the selected episodes."""
        known = self.source.ids()
        return [known[number] for number in self.numbers]

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Episode]:
        """Yield the selected episodes from number `start` up to `stop`."""
        for first, end in _runs(self.numbers[start:stop]):
            yield from self.source.read(first, end)


def open_selected(cfg: SourceSettings) -> Source:
    """Open the recorded data that the settings choose.

    Raises:
        FileNotFoundError: No such data, or no such list of names.
        ModuleNotFoundError: The format needs an extra that is not installed.
        ValueError: As for `open_source`, `load_ids` and `select`.
    """
    source = open_source(cfg.source, kind=cfg.format, fields=cfg.fields, camera=cfg.camera)
    return select(source, load_ids(cfg.ids), load_ids(cfg.excluded))


def select(source: Source, ids: Sequence[str] = (), excluded: Sequence[str] = ()) -> Source:
    """Return the episodes called `ids` without those called `excluded`, in the source's order.

    Args:
        source: The source.
        ids: Names, with or without a folder and ".npz"; empty for all episodes.
        excluded: Names of episodes to leave out.

    Raises:
        ValueError: A name that the source lacks or has twice, or no episode is left.
    """
    if not ids and not excluded:
        return source
    names = source.ids()
    numbers = {name: number for number, name in enumerate(names)}
    if len(numbers) < len(names):
        twice = next(name for number, name in enumerate(names) if numbers[name] != number)
        raise ValueError(
            f"expected every episode of {source.name} to have its own name, found {twice!r} twice; "
            "choose another field as id"
        )
    chosen = {_find(name, numbers, source) for name in ids} or set(numbers.values())
    chosen -= {_find(name, numbers, source) for name in excluded}
    if not chosen:
        raise ValueError(
            f"expected ids and excluded to leave episodes of {source.name}, found none of its "
            f"{len(source)}; exclude fewer"
        )
    return Selection(source, tuple(sorted(chosen)))


def load_ids(given: Sequence[str]) -> list[str]:
    """Return names of episodes; files among them are replaced by the names they list.

    - .json: a list of names, or a manifest of `v2w starts`
    - .txt: one name a line

    Raises:
        FileNotFoundError: No such file.
        ValueError: A file that lists no names.
    """
    found: list[str] = []
    for entry in given:
        found += _read_list(to_path(entry)) if entry.endswith((".json", ".txt")) else [entry]
    return found


def identify_ids(given: Sequence[str]) -> str:
    """Return a short text that identifies names of episodes in any order; "" for none.

    Raises:
        FileNotFoundError, ValueError: As for `load_ids`.
    """
    names = load_ids(given)
    if not names:
        return ""
    digest = hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()
    return f"{len(names)} names with digest {digest[:16]}"


def _read_list(path: Path) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(f"expected a list of episode names at {path}, found no file")
    try:
        text = path.read_text(encoding="utf-8")
        names = text.splitlines() if path.suffix == ".txt" else _listed(json.loads(text))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"expected a list of episode names in {path}, found {error!r}") from error
    names = [name for name in names if not isinstance(name, str) or name.strip()]
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f'expected a list of episode names in {path}, such as ["train_eps_00000007"], found '
            "something else"
        )
    return names


def _listed(found: Any) -> list[Any]:
    """Return the entries of a list, or the names of the episodes in a manifest of starts."""
    return found if isinstance(found, list) else [start["id"] for start in found["starts"]]


def _find(name: str, numbers: Mapping[str, int], source: Source) -> int:
    for spelling in (name, PurePath(name).name.removesuffix(".npz")):
        if spelling in numbers:
            return numbers[spelling]
    raise ValueError(
        f"expected the name of an episode of {source.name}, found {name!r}{hint(name, numbers)}"
    )


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first number of each run of consecutive numbers, and the number after its last."""
    for place, number in enumerate(numbers):
        if place == 0 or number != numbers[place - 1] + 1:
            first = number
        if place == len(numbers) - 1 or number + 1 != numbers[place + 1]:
            yield first, number + 1
