"""Data sets in, tensors out: sources, fixed splits, duplicates, the data card and the one preprocessing function."""

from nas.data.base import Duplicate, ImageData, Leakage, Split
from nas.data.card import card_markdown, data_card
from nas.data.loading import load_data
from nas.data.preprocessing import inputs

__all__ = ["Duplicate", "ImageData", "Leakage", "Split", "card_markdown", "data_card", "inputs", "load_data"]
