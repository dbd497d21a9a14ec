"""Block removal: the network in, one with fewer blocks of the same class out.

    transform: [{_target_: esr.surgery.depth.DropBlocks, blocks: 1}]

One block less saves more time than as many FLOPs in narrower ones, because a block is a chain of
kernels. Which blocks go is decided by trying: each is left out in turn, and the one whose absence
the calibration patches notice least is gone; then the next.
"""

import logging
import re
from collections.abc import Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import nn

from esr.build import Config
from esr.errors import UserError
from esr.surgery import rebuild
from esr.surgery.calibration import Data, draw, squared_error
from esr.surgery.prune import deployed
from esr.surgery.rebuild import State, build_network, outline

logger = logging.getLogger(__name__)


class DropBlocks:
    """Leaves out the blocks that matter least."""

    def __init__(
        self,
        blocks: Annotated[int, Ge(1)] = 1,  # how many
        argument: str = "depth",  # of the constructor: the number of blocks, or a list of one each
        container: str = "blocks",  # where they lie in the network
        patches: Annotated[int, Ge(1)] = 16,  # to calibrate
    ):
        if blocks < 1:
            raise UserError(f"blocks={blocks}: expected at least 1")
        self.blocks, self.argument = blocks, argument
        self.container, self.patches = container, patches

    def __call__(
        self, net: nn.Module, config: Mapping[str, Any], data: Data | None = ()
    ) -> tuple[nn.Module, Config]:
        """Leave blocks out, see `esr.surgery.transform`; a training form is merged first.

        In a rehearsal (`data` is None) the last blocks go.

        Raises:
            UserError: the network has no such argument, or not that many blocks.
        """
        patches = [] if data is None else draw(data, self.patches)
        first, training = next(net.parameters()), net.training
        net, model = deployed(net, config)
        rebuild.require_builds(model, net)
        for _ in range(self.blocks):
            number = self._number(model, net)
            tried = []
            for index in range(number) if patches else [number - 1]:
                smaller = self._shorter(model, index)
                state = self._without(net.state_dict(), smaller, index, number)
                candidate = build_network(smaller, state)
                loss = squared_error(candidate, patches) if patches else 0.0
                tried.append((loss, index, candidate, smaller))
            loss, index, net, model = min(tried, key=lambda found: found[0])
            logger.info("left out %s.%d: mean squared error %.3g", self.container, index, loss)
        return net.to(first.device, first.dtype).train(training), model

    def _number(self, config: Config, net: nn.Module) -> int:
        given = config.get(self.argument)
        number = len(given) if isinstance(given, list | tuple) else given
        if not isinstance(number, int):
            known = ", ".join(name for name in config if not name.startswith("_"))
            raise UserError(
                f"{type(net).__name__} has no number of blocks called {self.argument} in its "
                f"configuration, which has: {known}"
            )
        if number < 2:
            raise UserError(f"{type(net).__name__} has {number} block left, which has to stay")
        return number

    def _shorter(self, config: Config, index: int) -> Config:
        given = config[self.argument]
        if isinstance(given, list | tuple):
            return {**config, self.argument: [*given[:index], *given[index + 1 :]]}
        return {**config, self.argument: given - 1}

    def _without(self, state: State, config: Config, index: int, number: int) -> State:
        """The tensors of the other blocks under their new numbers.

        A tensor outside the blocks that gets smaller reads the outputs of all of them side by side.
        """
        pattern = re.compile(rf"^{re.escape(self.container)}\.(\d+)\.")
        result: dict[str, torch.Tensor] = {}
        for name, tensor in state.items():
            found = pattern.match(name)
            if found is None:
                result[name] = tensor
            elif (block := int(found[1])) != index:
                rest = name[found.end() :]
                result[f"{self.container}.{block - (block > index)}.{rest}"] = tensor
        shapes = rebuild.shapes(outline(config))
        for name, shape in shapes.items():
            if name not in result or result[name].dim() != len(shape):
                raise UserError(
                    f"{config['_target_']} with {self.argument}={config[self.argument]} has a "
                    f"tensor {name} that the longer network lacks: its blocks cannot be left out"
                )
            for dim, size in enumerate(shape):
                before = result[name].shape[dim]
                if before * (number - 1) == size * number:
                    chunks = list(result[name].chunk(number, dim))
                    result[name] = torch.cat(chunks[:index] + chunks[index + 1 :], dim)
        if {name: tuple(tensor.shape) for name, tensor in result.items()} != shapes:
            raise UserError(
                f"the blocks of {config['_target_']} are not interchangeable: none can be left out"
            )
        return result
