"""The embedded data: 1,797 handwritten digits of 8x8 pixels that scikit-learn brings along."""

from pathlib import Path

import numpy as np

from nas.data.base import Part, RawData, Split, numbered

_SOURCE = (
    "scikit-learn load_digits: test set of Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak, UCI)"
)


def read(path: Path | None = None) -> RawData:
    """Returns the digits; they have no path and no test split of their own.

    The 17 grey levels 0..16 become 0..255, so that they pass through the same scaling as every other image.
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    pixels = np.round(images * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    return RawData(
        name="digits",
        class_names=tuple("0123456789"),
        train=Part(Split(pixels, labels.astype(np.int64)), numbered("digits", len(labels))),
        test=None,
        source=_SOURCE,
        licence="CC BY 4.0",
    )
