"""The kinds of predictors by name, as saved on disk and shown to people."""

from difflib import get_close_matches

from latency_predictors.base import LatencyPredictor
from latency_predictors.boosted_trees import BoostedTreesPredictor
from latency_predictors.gaussian_process import GaussianProcessPredictor
from latency_predictors.linear import LinearPredictor
from latency_predictors.lookup_table import LookupTablePredictor
from latency_predictors.transfer import TransferPredictor
from search_spaces.errors import InputError

_KINDS: dict[str, type[LatencyPredictor]] = {
    kind.kind: kind for kind in (LinearPredictor, LookupTablePredictor, GaussianProcessPredictor, BoostedTreesPredictor)
}
_KINDS_ON_DISK = _KINDS | {TransferPredictor.kind: TransferPredictor}


def list_kinds() -> list[str]:
    """Returns the names of those that learn from a device's rows alone, the simplest first."""
    return list(_KINDS)


def predictor_kind(name: str) -> type[LatencyPredictor]:
    """Returns the class of a name: of `list_kinds`, or ``transfer``, which needs a source bank to be fitted.

    Raises:
        InputError: the name is unknown.
    """
    if name not in _KINDS_ON_DISK:
        close = get_close_matches(name, _KINDS_ON_DISK, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise InputError(f"a predictor must be one of {', '.join(_KINDS_ON_DISK)}, got {name!r}{hint}")
    return _KINDS_ON_DISK[name]
