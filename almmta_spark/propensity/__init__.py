"""P(the journey holds a touch of a cluster | X): cross-fitted by user, for every cluster; buckets and weights."""
