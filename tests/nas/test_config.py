from pathlib import Path

import pytest
import yaml

from nas.config import EarlyStoppingConfig, ExperimentConfig, SpaceConfig, StandAloneConfig, SupernetConfig, load_config
from search_spaces.errors import InputError
from search_spaces.space import SearchSpace
from search_spaces.typed_yaml import parse

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "experiments" / "configs").rglob("*.yaml"))
DIGITS = ROOT / "experiments" / "configs" / "digits.yaml"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_experiment_loads(path):
    assert load_config(path).run_dir.name


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_experiment_says_how_it_is_run(path):
    head = path.read_text().split("name:")[0]
    assert f"nas run experiments/configs/{path.name}" in head
    assert "Needs:" in head
    assert "Takes:" in head


def test_a_resolved_config_reads_back_as_itself():
    config = load_config(DIGITS)
    assert parse(ExperimentConfig, yaml.safe_load(config.to_yaml()), "resolved") == config


def test_overrides_replace_single_fields_and_open_short_forms():
    config = load_config(DIGITS, ("search.budget=7", "space.resolution=[16]", "name=other", "ray.executor=serial"))
    assert config.search.budget == 7
    assert config.space.load().table.resolution == (16,)
    assert config.space.name == "tiny"
    assert config.name == "other"


def space_of(name: str, resolution: list[int] | None) -> SearchSpace:
    return SpaceConfig(name=name, resolution=resolution).load()


def test_networks_of_other_resolutions_have_other_keys_and_the_same_network_has_one():
    tiny, small, large = (space_of("tiny", sides) for sides in (None, [8], [16]))
    values = dict(tiny.smallest().values)
    assert values.pop("resolution") == 8
    one, other = small.smallest(), large.smallest()
    assert small.layers(one) != large.layers(other)
    assert one.key != other.key
    # Rows of such a run are rows of the shipped space, which knows their layers.
    assert one.key == tiny.smallest().key
    assert tiny.layers(one) == small.layers(one)
    assert tiny.contains(other)
    assert not small.contains(other)
    assert not tiny.contains(space_of("tiny", [24]).smallest())
    with pytest.raises(InputError, match="needs a value for 'resolution'"):
        small.architecture(values)
    # A shipped space of a single resolution, and an override that says the same.
    shipped, same, less = (space_of("efficientnet", sides) for sides in (None, [224], [160]))
    assert shipped.smallest() == same.smallest()
    assert shipped.smallest().key != less.smallest().key


def test_spaces_that_are_not_cut_to_one_resolution_are_what_they_were():
    for space in (space_of("tiny", None), space_of("tiny", [8, 24]), space_of("efficientnet", [224])):
        assert "keyed" not in space.table.model_dump_json()
    assert space_of("tiny", None).smallest().key == "tiny-5a838f22e04c"
    assert space_of("tiny", [8, 24]).largest().text.startswith("tiny:r24,")


def test_all_errors_of_a_file_come_at_once_each_with_its_path():
    with pytest.raises(InputError) as caught:
        load_config(
            DIGITS, ("space=nonsense", "search.budge=3", "search.budget=0", "objectives=[accuracy,latncy@x]", "seed=-1")
        )
    text = str(caught.value)
    assert "space.name: space must be one of" in text
    assert "search.budge: unknown key" in text
    assert "search.budget: input should be greater than or equal to 1, got 0" in text
    assert "did you mean 'latency_ms'?" in text
    assert "seed:" in text


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("objectives=[accuracy,latency_ms@phone]", "a device that `devices` does not list"),
        ("devices.cpu.device=ssh/pi", "device must be one of adb/SERIAL/litert, "),
        ("devices.cpu.device=ssh/-oProxyCommand/litert", "an SSH host is a name"),
        ("devices.cpu.host=pixel8", r"devices\.cpu\.host names a machine of a Ray cluster, and ray\.address is loc"),
        ("objectives=[macs,parameters]", "accuracy must be among the objectives"),
        ("objectives=[accuracy,accuracy]", "must differ"),
        ("data.name=idx", "path is required"),
        ("constraints=[fast]", "a constraint is"),
        ("budget", "an override is key.path=value"),
        ("seed.deep=3", "is not a group of keys"),
        ("name=../escape", "pattern"),
        ("seed=[", "not valid YAML"),
        ("ledger=mysql://u@h/d", "must be postgresql\\+psycopg://USER@HOST/DATABASE"),
    ],
)
def test_a_wrong_override_names_the_rule(override, message):
    with pytest.raises(InputError, match=message):
        load_config(DIGITS, (override,))


@pytest.mark.parametrize(
    "url",
    ["postgresql://me:geheim@db/nas", "mysql://me:geheim@db/nas", "postgresql+psycopg://me@db/nas?password=geheim"],
)
def test_a_refused_ledger_does_not_show_its_password(url):
    with pytest.raises(InputError, match="ledger: must be ") as refused:
        load_config(DIGITS, (f"ledger={url}",))
    assert "geheim" not in str(refused.value)


def test_a_resolved_config_leaves_the_password_of_the_ledger_out():
    config = load_config(DIGITS, ("ledger=postgresql+psycopg://me:geheim@db:5432/nas?sslmode=require",))
    assert "geheim" in (config.ledger or "")
    assert "geheim" not in repr(config)
    assert "ledger: postgresql+psycopg://me@db:5432/nas?sslmode=require\n" in config.to_yaml()
    local = load_config(DIGITS, ("ledger=postgresql+psycopg:///nas",))
    assert "ledger: postgresql+psycopg:///nas\n" in local.to_yaml()


def test_a_key_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text("name: a\nname: b\n")
    with pytest.raises(InputError, match=r"line 2.*'name' stands here twice"):
        load_config(path)


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        load_config(tmp_path / "none.yaml")


def test_a_yaml_tag_that_would_build_an_object_is_refused(tmp_path):
    path = tmp_path / "tag.yaml"
    path.write_text("name: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(InputError, match="not valid YAML"):
        load_config(path)


def test_the_quickstart_is_the_digits_experiment():
    embedded = load_config(ROOT / "nas" / "quickstart.yaml")
    assert embedded.model_copy(update={"name": "digits"}) == load_config(DIGITS)


@pytest.mark.parametrize(
    ("given", "saved"),
    [
        ("sqlite:///runs/x/optuna.db", "sqlite:///runs/x/optuna.db"),
        ("sqlite:////srv/optuna.db", "sqlite:////srv/optuna.db"),
        ("mysql+pymysql://me:p@ss:word@host:3306/optuna", "mysql+pymysql://me@host:3306/optuna"),
        ("postgresql+psycopg://me@host/optuna?a=b:c@d", "postgresql+psycopg://me@host/optuna?a=b:c@d"),
    ],
)
def test_a_mirror_is_saved_without_its_password(given, saved):
    config = load_config(DIGITS, (f"search.mirror={given}",))
    assert config.search.mirror == given
    assert yaml.safe_load(config.to_yaml())["search"]["mirror"] == saved
    assert "p@ss" not in repr(config)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("accuracy.method=stand_alone", "accuracy.random_subnets=1"), r"accuracy\.random_subnets: unknown key"),
        (("accuracy.epochs=0",), r"digits\.yaml: accuracy\.epochs: input should be greater"),
        (("accuracy.method=guess",), r"accuracy: input tag 'guess'"),
        (
            ("accuracy.method=stand_alone", "accuracy.early_stopping={}", "ray.executor=serial"),
            r"accuracy\.early_stopping needs ray\.executor: ray",
        ),
        (
            ("accuracy.method=stand_alone", "accuracy.early_stopping={min_epochs: 16}"),
            r"accuracy: early_stopping\.min_epochs must be less than epochs, got 16 of 16",
        ),
    ],
)
def test_accuracy_is_found_by_one_method_and_only_its_keys_are_taken(overrides, message):
    with pytest.raises(InputError, match=message):
        load_config(DIGITS, overrides)


def test_a_file_without_a_method_means_the_supernet(tmp_path):
    assert load_config(DIGITS, ("accuracy={epochs: 3}",)).accuracy == SupernetConfig(epochs=3)
    alone = load_config(DIGITS, ("accuracy={method: stand_alone, early_stopping: {min_epochs: 2}}",))
    assert alone.accuracy == StandAloneConfig(early_stopping=EarlyStoppingConfig(min_epochs=2))
    (tmp_path / "resolved.yaml").write_text(alone.to_yaml())
    assert load_config(tmp_path / "resolved.yaml") == alone
