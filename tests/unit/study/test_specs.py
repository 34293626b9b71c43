"""Methods with settings of their own, as one word."""

import pytest

from almmta_spark.config import Config, from_dict
from almmta_spark.study import parts, specs


def test_settings_go_to_the_model_or_to_training_and_the_rest_is_as_in_conf():
    spec = specs.parse("latent:exposure_factor=false,epochs=3,dense_lr=1e-3", Config())
    assert spec.variant == "latent"
    assert (spec.model.exposure_factor, spec.training.epochs, spec.training.dense_lr) == (False, 3, 0.001)
    assert spec.model.embedding_dim == Config().model.embedding_dim


def test_no_settings_is_the_variant_as_it_is():
    for text in ("paper", specs.unchanged("paper")):
        spec = specs.parse(text, Config())
        assert (spec.variant, spec.model, spec.training) == ("paper", Config().model, Config().training)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("markov:order=2", "begins with one of"),
        ("latent:warehouse=x", "'warehouse=x' in 'latent:warehouse=x'"),
        ("latent:epochs", "key=value"),
        ("latent:epochs=0", r"training\.epochs must be >= 1"),
        ("latent:epochs=soon", r"training\.epochs must be int"),
    ],
)
def test_what_cannot_be_fitted_is_refused_by_name(text, message):
    with pytest.raises(ValueError, match=message):
        specs.parse(text, Config())


def test_single_fits_leave_everything_but_the_ensemble():
    conf = from_dict({"training": {"epochs": 3, "ensemble": {"variants": ["latent"], "repeats": 5}}})
    single = specs.single_fits(conf).training
    assert (single.ensemble.variants, single.ensemble.repeats, single.epochs) == ((), 5, 3)


def test_methods_part_into_plain_ones_and_those_with_settings():
    assert specs.split(["latent", "latent:", "linear", "paper:hidden=8"]) == (
        ["latent", "linear"],
        ["latent:", "paper:hidden=8"],
    )


@pytest.mark.parametrize("part", parts.PARTS, ids=lambda part: part.method)
def test_every_part_is_a_change_of_settings_that_exist(part):
    changed, as_it_is = specs.parse(part.method, Config()), specs.parse(part.method.partition(":")[0], Config())
    assert changed.variant == as_it_is.variant
    assert changed.model != as_it_is.model
