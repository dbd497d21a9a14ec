"""One run from configuration to result, on Lightning."""
