"""Pure arithmetic: boxes, masks, views, warps. Knows no file, no task, no network."""
