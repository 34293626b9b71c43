"""Other people's attributions, in the schema of ours: one `method` each."""
