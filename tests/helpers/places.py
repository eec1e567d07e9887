"""Where the project and its golden files are, from any test."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / 'launch'
GOLDEN = ROOT / 'tests' / 'golden'
