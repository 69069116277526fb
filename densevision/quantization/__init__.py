"""Export in 8-bit integers, judged by the metric of the task."""
