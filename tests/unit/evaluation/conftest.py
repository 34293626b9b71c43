import pytest

from tests.unit.evaluation import night


@pytest.fixture(scope="package")
def small_night(spark):
    return night.build(spark)
