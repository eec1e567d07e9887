"""What a network is trained for, one room per objective."""
