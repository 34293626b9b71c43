"""High-match (consumption, upload) pairs, with hard negatives from the same propensity bucket."""
