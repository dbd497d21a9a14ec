"""Training-time blocks that merge into one convolution: wide to train, plain to deploy."""
