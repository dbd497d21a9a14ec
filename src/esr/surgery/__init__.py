"""What replaces a network by another: merging re-parameterised blocks, pruning, another scale."""
