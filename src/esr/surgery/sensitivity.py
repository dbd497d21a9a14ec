"""How much each layer minds losing channels: PSNR against the share that is silenced.

Layer by layer, everything else untouched, so it says where a network has room and not what
pruning reaches in the end, after fine-tuning. Channels are silenced instead of taken out, which is
the same for the output and works for a single layer too.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from esr.console import bar, pyplot, say
from esr.errors import UserError
from esr.files import write_csv
from esr.surgery import rebuild
from esr.surgery.importance import Magnitude
from esr.surgery.prune import deployed
from esr.surgery.widths import analyse

Row = dict[str, Any]


def sensitivity(
    net: nn.Module,
    config: Mapping[str, Any],
    score: Callable[[nn.Module], float],  # from a network on the CPU to a figure such as PSNR
    shares: Sequence[float] = (0.125, 0.25, 0.5, 0.75),  # of the channels that are silenced
) -> Iterator[Row]:
    """Silence shares of each layer's weakest channels, by the group's norm, and score what is left.

    Yields:
        `layer` (the modules that compute the channels), `channels`, `share`, `silenced`, `score`
        and `change` against the whole network.

    Raises:
        UserError: a share is none.
    """
    wrong = [share for share in shares if not 0 < share < 1]
    if wrong or not shares:
        raise UserError(f"shares={list(shares)}: expected numbers above 0 and below 1")
    net, config = deployed(net, config)
    structure = analyse(net, config)
    state = structure.net.state_dict()
    scores = Magnitude()(structure.net, structure.segments, ())
    whole = score(structure.net)
    for i, segment in enumerate(structure.segments):
        if segment.fixed or segment.size < 2:
            continue
        for share in shares:
            gone = min(segment.size - 1, max(1, round(share * segment.size)))
            counts = [s.size - gone * (i == j) for j, s in enumerate(structure.segments)]
            kept = rebuild.strongest(scores, counts)
            silenced = rebuild.silence(state, structure.segments, kept)
            found = score(rebuild.build_network(structure.config, silenced))
            yield {
                "layer": " ".join(segment.writers),
                "channels": segment.size,
                "share": share,
                "silenced": gone,
                "score": found,
                "change": found - whole,
            }


def report_sensitivity(
    net: nn.Module,
    config: Mapping[str, Any] | None,
    score: Callable[[nn.Module], float],
    folder: Path,
    what: str = "PSNR-RGB",  # the score's name, for the picture
) -> list[Row]:
    """What `python evaluate.py ... sensitivity=true` does: measure, write, tell the weakest spots.

    Leaves `sensitivity.csv` in `folder`, and `sensitivity.png` where matplotlib is installed.

    Raises:
        UserError: the network's configuration is not known.
    """
    if config is None:
        raise UserError("sensitivity needs the network's configuration: name it with model=NAME")
    rows: list[Row] = []
    with bar("sensitivity", None, stays=False) as advance:
        for row in sensitivity(net, config, score):
            rows.append(row)
            advance()
    paths = [folder / "sensitivity.csv"]
    write_csv(paths[0], rows)
    if (plt := pyplot()) is not None:
        paths.append(_draw(plt, rows, folder / "sensitivity.png", what))
    for row in sorted(rows, key=lambda row: row["change"])[:3]:
        say(
            f"most sensitive  {row['layer'].split()[0]}: {row['change']:+.2f} dB without "
            f"{row['silenced']} of {row['channels']} channels"
        )
    say(f"written to {', '.join(str(path) for path in paths)}")
    return rows


def _draw(plt: Any, rows: Sequence[Row], path: Path, what: str) -> Path:
    """A row a layer, a column a share, the loss written into the cell."""
    channels = {row["layer"]: row["channels"] for row in rows}
    shares = list(dict.fromkeys(row["share"] for row in rows))
    change = {(row["layer"], row["share"]): row["change"] for row in rows}
    figure, axes = plt.subplots(figsize=(2.5 + 1.1 * len(shares) + 3, 1.2 + 0.3 * len(channels)))
    table = [[max(change[layer, share], -6) for share in shares] for layer in channels]
    axes.imshow(table, aspect="auto", cmap="RdYlGn", vmin=-3, vmax=0)
    for y, layer in enumerate(channels):
        for x, share in enumerate(shares):
            axes.text(x, y, f"{change[layer, share]:.2f}", ha="center", va="center", fontsize=8)
    axes.set_xticks(range(len(shares)), [f"{share:.1%}" for share in shares])
    axes.set_yticks(range(len(channels)), [_label(*pair) for pair in channels.items()])
    axes.tick_params(labelsize=8)
    axes.set_xlabel("channels silenced")
    axes.set_title(f"change of {what} in dB", fontsize=10)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)
    return path


def _label(layer: str, channels: int) -> str:
    first, _, others = layer.partition(" ")
    more = f" + {len(others.split())}" if others else ""
    return f"{first}{more} ({channels})"
