"""The results of an evaluation as JSON, Markdown, HTML, plots and thresholds."""
