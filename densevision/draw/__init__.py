"""Arrays laid over a picture, and pictures laid on a page. Knows arrays only: no record, no task, no network."""
