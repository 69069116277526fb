"""Drawing: annotations on images, legends, contact sheets, plots and HTML pages. Independent of tasks and networks."""
