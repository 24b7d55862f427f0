import nas.api


def test_every_exported_name_exists_and_is_documented():
    for name in nas.api.__all__:
        assert getattr(nas.api, name).__doc__, name


def test_nothing_public_is_exported_by_accident():
    public = {name for name in vars(nas.api) if not name.startswith("_")}
    assert public - set(nas.api.__all__) == {
        "evaluation",
        "latency",
        "latency_audit",
        "latency_transfer",
        "pipeline",
        "predictors",
        "results",
        "target_costs",
        "run_predictors",
        "trial",
        "run_files",
    }
