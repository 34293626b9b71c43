"""What is wrong with a setting is said by its key, its rule and its value; anything at all is a setting or refused."""

import re
from dataclasses import fields, is_dataclass
from typing import get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from almmta_spark import config
from almmta_spark.config import Config
from tests.bad_inputs import CONF_FILES, SETTINGS


@pytest.fixture
def path(tmp_path):
    (tmp_path / "c.yaml").write_text("signals: {camera: {}}")
    return tmp_path / "c.yaml"


@pytest.mark.parametrize("override", SETTINGS)
def test_a_bad_setting_is_refused_by_its_key(path, override):
    key = override.partition("=")[0]
    with pytest.raises(ValueError) as error:
        config.load(path, [override])
    said = str(error.value)
    named = re.sub(r"^signals\.camera", "signals.(camera|\\*)", key)
    assert re.search(rf"unknown config key {named}|{named.rpartition('.')[0]}|{named}", said)
    assert "must be" in said or "unknown config key" in said
    assert ", got " in said or ": known here are " in said


@pytest.mark.parametrize("name", CONF_FILES)
def test_a_bad_file_is_refused_by_its_name_and_place(path, name):
    content, says = CONF_FILES[name]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=says):
        config.load(path)


@pytest.mark.parametrize("override", ["seed", "=3", "seed=[1", "seed=!!python/name:os.system"])
def test_a_malformed_override_is_shown_with_what_is_wrong(path, override):
    with pytest.raises(ValueError, match=re.escape(override)):
        config.load(path, [override])


def keys(kind=Config, section=""):
    """Every key there is."""
    for field in fields(kind):
        of = get_type_hints(kind)[field.name]
        yield from keys(of, f"{section}{field.name}.") if is_dataclass(of) else [f"{section}{field.name}"]


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**400), 10**400), st.floats(), st.text(max_size=5), st.dates()
)
values = st.recursive(scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=5), v, max_size=3))


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(list(keys())), values)
def test_any_value_of_any_key_is_a_setting_or_refused_by_its_key(key, value):
    nested = value
    for part in reversed(key.split(".")):
        nested = {part: nested}
    try:
        made = config.from_dict(nested)
    except ValueError as error:
        assert key.rpartition(".")[0] in str(error) and key.rpartition(".")[2] in str(error)
        return
    assert config.from_dict(config.to_dict(made)) == made


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_any_bytes_are_settings_or_refused(content):
    try:
        config._build(Config, config._parsed(content, "c.yaml") or {}, "", "c.yaml")
    except ValueError as error:
        assert "c.yaml" in str(error)
