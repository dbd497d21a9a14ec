"""Images from disk to training batches: pure functions, stores and samplers."""
