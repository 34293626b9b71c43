"""Trained models over a night's journeys: every touch's deletion effect, in Spark."""
