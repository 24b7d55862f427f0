"""Where evaluations run.

Ray reads some of its settings when it is imported; they are set here, as a package is run before its modules. A
setting that the environment has already stays as it is.
"""

import os

_RAY_SETTINGS = {
    # No usage report leaves the machine.
    "RAY_USAGE_STATS_ENABLED": "0",
    # Workers without a GPU keep the variables they were given (the default of a later Ray).
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray writes messages of its daemons to the driver's standard output, which belongs to the command's data; deaths of
    # workers are logged by `RayExecutor`.
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    # Ray's default of 15 starves workers on a machine that does anything else: there, starting one took minutes.
    "RAY_worker_niceness": "0",
    # Ray Tune: nothing on standard output (its newer output ignores `verbose`); no files of each trial's results, the
    # ledger has them; no working directory for each trial; what an ended actor was doing is not waited for.
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_FORCE_TRIAL_CLEANUP_S": "5",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}

for _name, _value in _RAY_SETTINGS.items():
    os.environ.setdefault(_name, _value)
