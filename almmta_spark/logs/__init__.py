"""Raw logs in, accepted events out: every row validated, looked up and accounted for."""
