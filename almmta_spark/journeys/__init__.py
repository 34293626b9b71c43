"""Accepted events to journeys: one shuffle by user."""
