"""What a run trains on and who is kept apart for evaluation, one room per data.source."""
