"""What happens during training beside the steps: evaluation, pictures, progress."""
