"""Settings: typed, validated, nothing silently ignored."""

import pytest

from almmta_spark import config


def write(tmp_path, text, name="c.yaml"):
    (tmp_path / name).write_text(text)
    return tmp_path / name


def test_every_shipped_file_loads():
    for name in ("local", "test", "prod", "kuairand"):
        assert config.load(f"conf/{name}.yaml").env


def test_overrides_reach_nested_keys_and_keep_types(tmp_path):
    conf = config.load(write(tmp_path, "seed: 3"), ["journeys.max_touchpoints=5", "training.dense_lr=1e-3", "env=x"])
    assert (conf.seed, conf.journeys.max_touchpoints, conf.training.dense_lr, conf.env) == (3, 5, 1e-3, "x")


def test_spark_keys_keep_their_dots(tmp_path):
    conf = config.load(write(tmp_path, ""), ["spark.spark.sql.shuffle.partitions=7"])
    assert conf.spark == {"spark.sql.shuffle.partitions": "7"}


def test_a_file_extends_another(tmp_path):
    write(tmp_path, "journeys: {max_touchpoints: 9, pre_hours: 3}", "base.yaml")
    conf = config.load(write(tmp_path, "extends: base.yaml\njourneys: {pre_hours: 4}"))
    assert (conf.journeys.max_touchpoints, conf.journeys.pre_hours) == (9, 4.0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("jorneys: {}", "unknown config key jorneys"),
        ("journeys: {max_touch: 3}", "unknown config key journeys.max_touch"),
        ("journeys: {max_touchpoints: 0}", "journeys.max_touchpoints must be in [1, 1024], got 0"),
        ("journeys: {max_touchpoints: many}", "journeys.max_touchpoints must be int, got 'many'"),
        ("journeys: {max_touchpoints: true}", "journeys.max_touchpoints must be int, got True"),
        ("training: {variants: [latent, magic]}", "training.variants must be"),
        ("signals: {a: {roles: [proxy]}}", "signals.*.roles must be"),
        ("signals: {a: {kind: real}}", "signals.*.kind must be"),
        ("env: a/../b", "env must be letters, digits, - and _, got 'a/../b'"),
        ("log_format: xml", "log_format must be one of ('text', 'json'), got 'xml'"),
        ("tracking: {registered_model: 'm; drop'}", "tracking.registered_model must be letters, digits, - and _"),
        ("training: {variants: ['../../latent']}", "training.variants must be"),
        ("spark: {sql.shuffle.partitions: 3}", "spark must be settings spark.*, got ['sql.shuffle.partitions']"),
        ("- 1", "must hold a mapping"),
    ],
)
def test_bad_settings_name_key_rule_and_value(tmp_path, text, says):
    with pytest.raises(ValueError) as error:
        config.load(write(tmp_path, text))
    assert says in str(error.value)


def test_what_spark_settings_hold_is_not_said(tmp_path):
    with pytest.raises(ValueError) as error:
        config.load(write(tmp_path, "spark: {fs.s3a.secret.key: abc123}"))
    assert "abc123" not in str(error.value)


def test_a_malformed_override_is_shown(tmp_path):
    with pytest.raises(ValueError, match="--set takes key=value, got 'seed'"):
        config.load(write(tmp_path, ""), ["seed"])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="no configuration file at"):
        config.load(tmp_path / "none.yaml")


def test_a_config_survives_a_dict_and_its_digest_sees_every_key():
    conf = config.load("conf/local.yaml")
    assert config.from_dict(config.to_dict(conf)) == conf
    assert config.digest(conf) != config.digest(config.load("conf/local.yaml", ["seed=1"]))
