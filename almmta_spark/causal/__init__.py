"""What we claim, in numpy: the front door, uplift curves and errors against known effects."""
