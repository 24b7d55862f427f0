"""The data card: what the images are, where they come from, and how they were split."""

import numpy as np

from nas.data.base import ImageData, Split

_SHOWN = 20  # duplicates listed; all are counted


def data_card(data: ImageData) -> dict[str, object]:
    """Returns the facts of a data set as JSON values.

    Keys: name, source, licence (null where unknown), image_size (height, width in pixels), image_channels,
    class_names, images (count by split), images_per_class (by split, in label order), mean and std (of the training
    split, 0..1 scale), resized_images, duplicates (dropped by split, first of them listed; repeats within a split;
    pictures with conflicting labels), split_sha256. The test split is left out after `ImageData.without_test`, except
    for its hash.
    """
    splits: dict[str, Split] = {"train": data.train, "validation": data.validation}
    if data.test_split is not None:
        splits["test"] = data.test_split
    dropped = data.leakage.dropped
    return {
        "name": data.name,
        "source": data.source,
        "licence": data.licence,
        "image_size": list(data.image_size),
        "image_channels": data.image_channels,
        "class_names": list(data.class_names),
        "images": {name: len(split) for name, split in splits.items()},
        "images_per_class": {
            name: np.bincount(split.labels, minlength=data.classes).tolist() for name, split in splits.items()
        },
        "mean": list(data.mean),
        "std": list(data.std),
        "resized_images": data.resized,
        "duplicates": {
            "dropped": {
                name: sum(duplicate.split == name for duplicate in dropped) for name in ("train", "validation")
            },
            "dropped_with_another_label": sum(not duplicate.same_label for duplicate in dropped),
            "first_dropped": [
                f"{duplicate.place} ({duplicate.split}) is {duplicate.kept_place} ({duplicate.kept_split})"
                for duplicate in dropped[:_SHOWN]
            ],
            "repeats_within": dict(data.leakage.repeats),
            "conflicting_labels": len(data.leakage.conflicts),
            "first_conflicts": [list(places) for places in data.leakage.conflicts[:_SHOWN]],
        },
        "split_sha256": dict(data.hashes),
    }


def card_markdown(data: ImageData) -> str:
    """Returns the data card as Markdown, for a model card or a report."""
    splits = [("train", data.train), ("validation", data.validation)]
    if data.test_split is not None:
        splits.append(("test", data.test_split))
    counts = [np.bincount(split.labels, minlength=data.classes) for _, split in splits]
    height, width = data.image_size
    leakage = data.leakage
    names = [name for name, _ in splits]
    lines = [
        f"# Data: {_cell(data.name)}",
        "",
        f"- Source: {_cell(data.source)}",
        f"- Licence: {_cell(data.licence) if data.licence else 'not stated by the files'}",
        f"- Images: {height}x{width} pixels, {'grey' if data.image_channels == 1 else 'RGB'}; "
        f"{data.resized} resized to this",
        f"- Exact duplicates (SHA-256 of the decoded pixels): {len(leakage.dropped)} dropped because a more protected "
        f"split has them; {sum(leakage.repeats.values())} repeats within a split kept; "
        f"{len(leakage.conflicts)} pictures with conflicting labels",
        "",
        f"| class | {' | '.join(names)} |",
        f"| --- |{' ---: |' * len(names)}",
        *(
            f"| {_cell(name)} | {' | '.join(str(count[label]) for count in counts)} |"
            for label, name in enumerate(data.class_names)
        ),
        f"| all | {' | '.join(str(len(split)) for _, split in splits)} |",
        "",
        "| split | SHA-256 of pixels and labels |",
        "| --- | --- |",
        *(f"| {name} | `{digest}` |" for name, digest in data.hashes.items()),
        "",
    ]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
