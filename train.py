"""Train a network, or run a whole recipe: `python train.py --help` shows what can be typed."""

try:
    from esr.commands.cli import train
except ModuleNotFoundError as error:
    if error.name != "esr":
        raise
    raise SystemExit("esr is not installed: pip install -c constraints.txt -e .") from None

if __name__ == "__main__":
    train()
