"""What `-m` and `sweep=` run. Hydra imports every plugin at start: all real imports wait."""

from esr.sweeps.sweepers import SearchTrials, Trials


class Grid(Trials):
    """Every combination of what was typed; one that fails does not keep the others from running."""

    def sweep(self, arguments: list[str]) -> None:
        from esr.sweeps import grid

        grid.run(self, arguments)


class Search(SearchTrials):
    """Asks, launches and tells until the study has its trials."""

    def sweep(self, arguments: list[str]) -> None:
        from esr.sweeps import search

        search.run(self, arguments)
