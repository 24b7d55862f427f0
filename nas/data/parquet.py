"""Parquet tables of compressed images: column ``image`` (PNG or JPEG bytes) and column ``label``."""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nas.data.base import Labels, Part, RawData, Split, existing_folder, numbered
from nas.data.decoding import Encoded, decode
from nas.data.stored import ImageStore
from nas.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

_HOW_TO_GET = "put train.parquet there, with the columns image (PNG or JPEG bytes) and label; test.parquet is optional"
_ROWS = 64  # read at a time
_BUFFER_BYTES = 2**20  # with one, Arrow reads a column's pages as they are needed, else those of a whole row group
_log = logging.getLogger(__name__)


def read(path: Path | None, store: ImageStore | None = None) -> RawData:
    """Returns the images of ``train.parquet`` and, as the test split, ``test.parquet`` or else ``validation.parquet``.

    A part may also lie in several files ``train-*.parquet``. ``image`` is binary, or a struct with a binary field
    ``bytes``. ``label`` is an integer, an index into the class names, or the class name itself. Names come from the
    schema metadata (``class_names``, a JSON list, or Hugging Face's ``huggingface``), else from the labels found.

    Args:
        path: of the folder.
        store: of decoded images that are too large for memory; None to keep all in memory.

    Raises:
        InputError: a file, a column, a label or an image breaks a rule; the message names it.
    """
    folder = existing_folder(path, _HOW_TO_GET)
    train_files, test_files, validation_files = (_files(folder, part) for part in ("train", "test", "validation"))
    if not train_files:
        raise InputError(f"{folder} holds no train.parquet; {_HOW_TO_GET}")
    if test_files and validation_files:
        _log.warning("%s: %s is not used; validation images are taken from train", folder, validation_files[0].name)
    parts = [files for files in (train_files, test_files or validation_files) if files]
    tables = [_table(files) for files in parts]
    places = [
        numbered(f"{name}.parquet", len(table))
        for name, table in zip(("train", "test" if test_files else "validation"), tables, strict=False)
    ]
    metadata = tables[0].schema.metadata or {}
    class_names = _declared_names(metadata) or _found_names(tables)
    labels = [_labels(table, class_names, names) for table, names in zip(tables, places, strict=True)]
    files = [file for part in parts for file in part]
    names = [place for part_places in places for place in part_places]
    images, resized = decode(Encoded(folder, lambda: files, lambda: _images(files, names), names), store)
    every, cut = Part(Split(images, np.concatenate(labels)), names), len(tables[0])
    licence = metadata.get(b"licence") or metadata.get(b"license")
    return RawData(
        name=metadata.get(b"dataset", folder.resolve().name.encode()).decode(),
        class_names=class_names,
        train=every.take(slice(cut)),
        test=every.take(slice(cut, None)) if len(parts) > 1 else None,
        source=metadata.get(b"source", f"Parquet files in {folder}".encode()).decode(),
        licence=licence.decode() if licence else None,
        resized=resized,
    )


def _files(folder: Path, part: str) -> list[Path]:
    whole = folder / f"{part}.parquet"
    return [whole] if whole.is_file() else sorted(folder.glob(f"{part}-*.parquet"))


def _table(files: list[Path]) -> "pa.Table":
    """Returns the labels, with the metadata of the first file."""
    import pyarrow as pa
    from pyarrow import parquet

    schemas, tables = [], []
    for file in files:
        with _complete(file):
            schemas.append(parquet.read_schema(file))
            missing = [column for column in ("image", "label") if column not in schemas[-1].names]
            if missing:
                raise InputError(f"{file} must have the columns image and label, it has {', '.join(schemas[-1].names)}")
            tables.append(parquet.read_table(file, columns=["label"]))
    if any(schema.field(column) != schemas[0].field(column) for schema in schemas for column in ("image", "label")):
        raise InputError(f"{files[0]} and the files beside it must have the same column types; write them alike")
    return pa.concat_tables(tables)


@contextmanager
def _complete(file: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"cannot read {file}: {reason}; check that it is a complete Parquet file") from None


def _declared_names(metadata: dict[bytes, bytes]) -> tuple[str, ...]:
    try:
        if b"class_names" in metadata:
            names = json.loads(metadata[b"class_names"])
        else:
            # Hugging Face datasets write their features here.
            names = json.loads(metadata[b"huggingface"])["info"]["features"]["label"]["names"]
    except (KeyError, TypeError, ValueError):
        return ()
    return tuple(map(str, names))


def _found_names(tables: "Sequence[pa.Table]") -> tuple[str, ...]:
    found = {value for table in tables for value in table["label"].unique().to_pylist() if value is not None}
    if all(isinstance(value, int) for value in found):
        return tuple(str(value) for value in range(max(found, default=-1) + 1))
    return tuple(sorted(map(str, found)))


def _labels(table: "pa.Table", class_names: tuple[str, ...], places: Sequence[str]) -> Labels:
    index = {name: label for label, name in enumerate(class_names)}
    labels = np.empty(len(table), np.int64)
    for row, value in enumerate(table["label"].to_pylist()):
        label = index.get(value, -1) if isinstance(value, str) else value
        if not isinstance(label, int) or isinstance(label, bool) or label < 0:
            raise InputError(f"label of {places[row]} must be a class name or its index, got {value!r}")
        labels[row] = label
    return labels


def _images(files: Sequence[Path], places: Sequence[str]) -> Iterator[bytes]:
    """Yields the content of the column ``image`` of all files, of which few rows are in memory at a time."""
    import pyarrow as pa
    from pyarrow import parquet

    row = 0
    for file in files:
        with _complete(file), parquet.ParquetFile(file, buffer_size=_BUFFER_BYTES) as opened:
            for batch in opened.iter_batches(_ROWS, columns=["image"]):
                column = batch.column(0)
                if pa.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
                    column = pa.compute.struct_field(column, "bytes")
                if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
                    raise InputError(
                        f"the column image must hold PNG or JPEG bytes, {places[row]} has the type {column.type}"
                    )
                for data in column.to_pylist():
                    if data is None:
                        raise InputError(f"the image of {places[row]} is missing; remove the row")
                    yield data
                    row += 1
