"""What we claim, in numpy: uplift curves, credit, weights and errors against known effects."""
