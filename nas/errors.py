"""The error tree of the product.

HwnasError              reported in one sentence, without a traceback; exit code 1
├── InputError          the user's file, option or data breaks a rule; exit code 2; also a ValueError
└── RunError            a run cannot go on (its files are damaged, another process holds it); exit code 1
"""

from search_spaces.errors import HwnasError, InputError

__all__ = ["HwnasError", "InputError", "RunError"]


class RunError(HwnasError, RuntimeError):
    """A run cannot go on; its text says what is on disk and what to do."""
