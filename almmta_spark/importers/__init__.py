"""Public data sets as the pipeline's input tables."""
