"""Train, compress, measure and reproduce efficient super-resolution networks."""

__version__ = "0.1.0"
