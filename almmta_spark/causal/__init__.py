"""What we claim, in numpy: uplift curves and errors against known effects."""
