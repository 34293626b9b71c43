"""Front-door causal multi-touch attribution as a nightly Spark job (ALM-MTA, arXiv 2605.08881)."""

__version__ = "0.1.0"
