"""What an evaluation found, as JSON, Markdown, HTML, plots and thresholds."""
