"""Export in 8-bit integers, accepted by the metric of the task."""
