"""Finishing: from picked architectures to checked, re-measured, documented model files."""

from nas.finish.bundle import Bundle, read_bundle
from nas.finish.finishing import Finishing
from nas.finish.work import Pick

__all__ = ["Bundle", "Finishing", "Pick", "read_bundle"]
