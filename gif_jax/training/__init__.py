"""The online half: losses, optimiser, sharding, checkpoints and the loop that joins them."""
