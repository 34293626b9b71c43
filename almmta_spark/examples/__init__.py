"""Journeys as fixed-length numeric rows: the spec, the features, the layout for the loader."""
