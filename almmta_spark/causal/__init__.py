"""What we claim, in numpy: the front door, uplift curves, credit, weights and errors against known effects."""
