"""Worlds with known truth, written as the platform's input tables. It never imports the code it grades."""
