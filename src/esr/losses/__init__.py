"""Training losses: `forward(sr, hr, lr)`, one a file."""
