"""Rows of Parquet files: only the columns and row groups that are needed are read."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.names import hint
from v2w_gym.configs.text import printable
from v2w_gym.world_models.downloads import check_present

_BUFFER = 1 << 20
"""Bytes of a column that are read at once, so that a large row group is never read whole."""
_BATCH = 16
"""Rows that are decoded at once where a value is a whole picture."""


def import_parquet() -> Any:
    """Return the module `pyarrow.parquet`.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet as parquet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"expected pyarrow to read Parquet files, found no module {error.name!r}; "
            "run: pip install pyarrow",
            name=error.name,
        ) from error
    return parquet


@contextmanager
def open_parquet(path: Path, names: Sequence[str]) -> Iterator[Any]:
    """Open a Parquet file that has the columns `names`; errors of reading it become one line.

    Raises:
        FileNotFoundError: No such file.
        ModuleNotFoundError: pyarrow is not installed.
        ValueError: The file is damaged, a git-LFS pointer, or lacks a column.
    """
    parquet = import_parquet()
    import pyarrow as pa

    check_present(path)
    try:
        with parquet.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as file:
            _check_columns(path, file.schema_arrow.names, names)
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"expected a whole Parquet file at {path}, found this: {printable(str(error), 200)}; "
            "copy it again"
        ) from error


class ParquetRows:
    """Columns of numbers or text, read by ranges of rows; the newest row group stays in memory.

    Args:
        path: The file.
        names: Names of the columns.

    Attributes:
        count: Number of rows in the file.

    Raises:
        FileNotFoundError, ValueError: As for `open_parquet`.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.path = path
        self.names = list(names)
        with open_parquet(path, names) as file:
            self.count: int = file.metadata.num_rows
            self._ends = _group_ends(file)
        self._newest: tuple[int, Any] = (-1, None)

    def read(self, start: int = 0, stop: int | None = None) -> dict[str, NDArray[Any]]:
        """Return the columns of rows `start` to `stop`: (n,), or (n, A) for lists of A > 1 numbers.

        Raises:
            ValueError: The file is damaged or has fewer rows, or a column holds something else.
        """
        import pyarrow as pa

        stop = self.count if stop is None else stop
        if not 0 <= start < stop <= self.count:
            raise ValueError(
                f"expected rows {start} to {stop} in {self.path}, found {self.count} rows; the "
                "index of the data set describes another file"
            )
        firsts = np.r_[0, self._ends]
        parts = [
            self._read_group(group).slice(max(start - firsts[group], 0), stop - firsts[group])
            for group in _groups_of(self._ends, start, stop)
        ]
        table = pa.concat_tables(parts).slice(0, stop - start)
        return {name: self._to_array(name, table.column(name)) for name in self.names}

    def _read_group(self, group: int) -> Any:
        if self._newest[0] != group:
            with open_parquet(self.path, self.names) as file:
                self._newest = (group, file.read_row_group(group, columns=self.names))
        return self._newest[1]

    def _to_array(self, name: str, column: Any) -> NDArray[Any]:
        import pyarrow.compute as pc

        if not _is_list(column.type):
            return column.to_numpy()
        sizes = pc.list_value_length(column).unique().to_pylist()
        values = pc.list_flatten(column)
        if len(sizes) != 1 or not sizes[0] or _is_list(values.type):
            raise ValueError(
                f"expected one number, or a list of as many numbers, in every row of {name} in "
                f"{self.path}, found {column.type} of sizes {sizes[:3]}"
            )
        rows = values.to_numpy().reshape(len(column), sizes[0])
        return rows[:, 0] if sizes[0] == 1 else rows


def read_pictures(path: Path, name: str, start: int, stop: int) -> Iterator[dict[str, Any]]:
    """Yield the values of a column of pictures, `{bytes, path}`, in rows `start` to `stop`.

    Memory holds few rows at a time, however large the row groups are.

    Raises:
        FileNotFoundError, ValueError: As for `open_parquet`.
    """
    with open_parquet(path, [name]) as file:
        ends = _group_ends(file)
        groups = _groups_of(ends, start, stop)
        row = int(np.r_[0, ends][groups[0]])
        for batch in file.iter_batches(_BATCH, row_groups=groups, columns=[name]):
            first, row = row, row + len(batch)
            yield from batch.column(name)[max(start - first, 0) : max(stop - first, 0)].to_pylist()
            if row >= stop:
                return


def _check_columns(path: Path, found: list[str], names: Sequence[str]) -> None:
    for name in names:
        if name not in found:
            raise ValueError(
                f"expected a column {name!r} in {path}, found {found}{hint(name, found)}"
            )


def _group_ends(file: Any) -> NDArray[np.int64]:
    """Return the number of the row after each row group."""
    groups = range(file.metadata.num_row_groups)
    return np.cumsum([file.metadata.row_group(group).num_rows for group in groups], dtype=np.int64)


def _groups_of(ends: NDArray[np.int64], start: int, stop: int) -> list[int]:
    """Return the row groups that hold rows `start` to `stop`."""
    first, last = np.searchsorted(ends, [start, stop - 1], side="right")
    return list(range(int(first), int(last) + 1))


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    types = pa.types
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
