"""Arrays laid over an image, and images laid on a page. Knows arrays only: no record, no task, no network."""
