"""What a training costs: arithmetic, memory, time; estimated, compiled, traced."""
