"""What models are measured on: the field's benchmarks, opened from their files."""
