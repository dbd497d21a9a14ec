"""What can be typed: `python train.py` and `python evaluate.py`."""
