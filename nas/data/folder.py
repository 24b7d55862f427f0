"""Image folders: one sub-folder for each class, holding PNG, JPEG or other image files."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nas.data.base import Part, RawData, Split, existing_folder
from nas.data.decoding import Encoded, decode
from nas.data.stored import ImageStore
from nas.errors import InputError

_HOW_TO_GET = "make one folder for each class there, or train/ and test/ with such folders, and put the images in them"
_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}
_log = logging.getLogger(__name__)


def read(path: Path | None, store: ImageStore | None = None) -> RawData:
    """Returns the images of ``path/CLASS/*`` or of ``path/train/CLASS/*`` and ``path/test/CLASS/*``.

    Without ``test``, a folder ``validation`` or ``val`` beside ``train`` is the test split. Classes are the folder
    names in sorted order. Images of another size than the most frequent one are resized to it and counted.

    Args:
        path: of the folder.
        store: of decoded images that are too large for memory; None to keep all in memory.

    Raises:
        InputError: a class folder is empty, the test classes differ, or an image is damaged; the message names it.
    """
    folder = existing_folder(path, _HOW_TO_GET)
    train = folder / "train" if (folder / "train").is_dir() else folder
    held_out = [folder / name for name in ("test", "validation", "val") if train != folder and (folder / name).is_dir()]
    if len(held_out) > 1:
        _log.warning("%s: %s is not used; validation images are taken from train", folder, held_out[1].name)
    class_names = _classes(train)
    if not class_names:
        raise InputError(f"{train} holds no class folders; {_HOW_TO_GET}")
    files = [_files(train, class_names)]
    if held_out:
        unknown = sorted(set(_classes(held_out[0])) - set(class_names))
        if unknown:
            raise InputError(f"{held_out[0]} has classes that {train} has not: {', '.join(unknown)}")
        files.append(_files(held_out[0], class_names))
    places = [str(file.relative_to(folder)) for part in files for file, _ in part]
    labels = np.array([label for part in files for _, label in part], np.int64)

    def paths() -> Iterator[Path]:
        return (folder / place for place in places)

    images, resized = decode(Encoded(folder, paths, paths, places), store)
    every, cut = Part(Split(images, labels), places), len(files[0])
    return RawData(
        name=folder.resolve().name,
        class_names=class_names,
        train=every.take(slice(cut)),
        test=every.take(slice(cut, None)) if held_out else None,
        source=f"image folder {folder}",
        resized=resized,
    )


def _classes(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."))


def _files(folder: Path, class_names: tuple[str, ...]) -> list[tuple[Path, int]]:
    found = []
    for label, name in enumerate(class_names):
        files = sorted(file for file in (folder / name).rglob("*") if file.suffix.lower() in _SUFFIXES)
        if not files and (folder / name).is_dir():
            raise InputError(f"{folder / name} holds no images ({', '.join(sorted(_SUFFIXES))}); fill or remove it")
        found += [(file, label) for file in files]
    return found
