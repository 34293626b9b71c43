"""What keeps a model of another night from scoring tonight's journeys."""

from dataclasses import replace

from tests.unit.inference.conftest import SPEC


def test_a_model_of_another_night_fits_where_it_knows_what_tonight_has():
    assert SPEC.misfits(replace(SPEC, base_rate=0.5, covariate_mean=(9.0, 9.0), num_training=7)) == ""
    assert SPEC.misfits(replace(SPEC, clusters=(5,), max_touchpoints=2)) == ""


def test_what_it_does_not_know_is_named():
    assert SPEC.misfits(replace(SPEC, clusters=(*SPEC.clusters, 41))) == "it does not know cluster 41"
    assert SPEC.misfits(replace(SPEC, max_touchpoints=5)) == "it reads 4 touches of a journey, and tonight's have 5"
    assert SPEC.misfits(replace(SPEC, covariate_mean=(0.0,))) == "it knows 2 covariates, not 1"
    assert SPEC.misfits(replace(SPEC, embedding_length=4)) == "it knows 0 numbers in a content, not 4"
