"""Every verb of the product as a typed function; the command line calls only these.

Importing this loads nothing heavy: torch, ray and TensorFlow are imported by the verbs that need them.
"""

from nas.api.doctor import Diagnosis, doctor
from nas.api.fleet import fleet, fleet_rows
from nas.api.latency import (
    evaluate_latency,
    finding_rows,
    fit_latency,
    import_latency,
    import_summary,
    lint_latency,
    measure_latency,
    measurement_rows,
    measuring_devices,
    release_device,
)
from nas.api.latency_audit import Audited, audit_latency, audit_rows, lift_quarantine, list_quarantined
from nas.api.latency_transfer import ToMeasure, Transferred, learning_rows, transfer_latency
from nas.api.pipeline import RunResult, finish, quickstart, run, search, start, train
from nas.api.plan import Plan, plan
from nas.api.predictors import list_predictors, promote_predictor
from nas.api.results import front, front_rows, pick, point_rows
from nas.api.run_files import FileState
from nas.api.submit import SubmittedJob, submit
from nas.api.trust import trained_rows, trust, trust_rows
from nas.config import ExperimentConfig, load_config

__all__ = [
    "Audited",
    "Diagnosis",
    "ExperimentConfig",
    "FileState",
    "Plan",
    "RunResult",
    "SubmittedJob",
    "ToMeasure",
    "Transferred",
    "audit_latency",
    "audit_rows",
    "doctor",
    "evaluate_latency",
    "finding_rows",
    "finish",
    "fit_latency",
    "fleet",
    "fleet_rows",
    "front",
    "front_rows",
    "import_latency",
    "import_summary",
    "learning_rows",
    "lift_quarantine",
    "lint_latency",
    "list_predictors",
    "list_quarantined",
    "load_config",
    "measure_latency",
    "measurement_rows",
    "measuring_devices",
    "pick",
    "plan",
    "point_rows",
    "promote_predictor",
    "quickstart",
    "release_device",
    "run",
    "search",
    "start",
    "submit",
    "train",
    "trained_rows",
    "transfer_latency",
    "trust",
    "trust_rows",
]
