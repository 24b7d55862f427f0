"""The verbs on saved predictors: list them, say which version a name means."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latency_predictors.catalog import CatalogEntry


def list_predictors(store: Path) -> list[dict[str, object]]:
    """Returns a summary of every version of every predictor in a folder.

    ``meant_by_name`` marks the version that the name alone means, ``last_verified`` is when and on what it was last
    evaluated, ``verified_mape`` the error it had there, ``drift`` why it no longer matched.
    """
    from latency_predictors.catalog import Catalog

    catalog = Catalog(store)
    rows = []
    for entry in catalog.entries():
        verified = catalog.verified(entry)
        row = predictor_summary(entry) | {"meant_by_name": catalog.entry(entry.name).version == entry.version}
        row["last_verified"] = f"{verified.at:%Y-%m-%d %H:%M} {verified.data}" if verified else "-"
        row["verified_mape"] = verified.scores.mape if verified else "-"
        row["drift"] = (verified.drift or "none") if verified else "-"
        rows.append(row)
    return rows


def promote_predictor(name: str, store: Path) -> dict[str, object]:
    """Makes a version (``NAME/v2``) the one that NAME alone means; returns its summary.

    Raises:
        InputError: no such predictor or version, or no version is named.
    """
    from latency_predictors.catalog import Catalog

    return predictor_summary(Catalog(store).promote(name))


def predictor_summary(entry: "CatalogEntry") -> dict[str, object]:
    """Returns a table row for a version of a predictor."""
    best = entry.validations[0]
    return {"predictor": entry.id, "device": entry.device, "metric": entry.metric, "rows": entry.rows, **best.to_dict()}
