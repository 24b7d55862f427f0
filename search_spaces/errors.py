"""The base of the product's error tree; the lowest package holds it because every package raises from it.

HwnasError          anything the product reports in one sentence, without a traceback (exit code 1)
└── InputError      the user's file, option or data breaks a rule (exit code 2); also a ValueError

`nas.errors` adds the errors of runs.
"""


class HwnasError(Exception):
    """Base of every error the product raises on purpose; its text is one sentence for the user."""


class InputError(HwnasError, ValueError):
    """A file, option or value given by the user breaks a rule; nothing was changed."""
