"""Score a checkpoint, a challenge entry or a whole challenge: see `python evaluate.py --help`."""

try:
    from esr.commands.cli import evaluate
except ModuleNotFoundError as error:
    if error.name != "esr":
        raise
    raise SystemExit("esr is not installed: pip install -c constraints.txt -e .") from None

if __name__ == "__main__":
    evaluate()
