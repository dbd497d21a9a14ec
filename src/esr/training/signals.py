"""Signals that end a run: Ctrl-C, a machine that is shut down, a cluster that wants its node back.

They are only noted when they come. Whoever trains asks at the end of a step, saves, and then hands
over to the handler that was there before: submitit's queues its job again. Without one, a SLURM job
that was warned by SIGUSR1 or SIGUSR2 (`sbatch --signal`) is queued again here.
"""

import contextlib
import os
import signal
import threading
from types import FrameType

from esr.training.processes import requeue, slurm_job

SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
]
"""Those of this platform, the most telling last: clusters send SIGTERM beside their own signal."""


class Signals:
    """Notes signals instead of being ended by them; one process `leads` a distributed run."""

    def __init__(self, leads: bool = True):
        self.leads = leads
        self.noted = 0  # place in `SIGNALS` of what has come, from 1; 0: nothing
        # Only the main thread may set handlers; in another one, nothing is ever noted.
        mine = threading.current_thread() is threading.main_thread()
        self._before = {number: signal.getsignal(number) for number in SIGNALS} if mine else {}
        self._taken = False
        self._process = os.getpid()

    def take(self) -> None:
        """Note signals from now on. Those of before are the ones at construction."""
        for number in self._before:
            signal.signal(number, self._note)
        self._taken = True

    def give_back(self) -> None:
        """Restore the handlers of before."""
        if self._taken:
            for number, handler in self._before.items():
                signal.signal(number, handler)
        self._taken = False

    def passes(self, noted: int) -> bool:
        """Whether the run goes on: submitit lets SIGTERM pass and waits for its own signal."""
        number = SIGNALS[noted - 1]
        return number == signal.SIGTERM and callable(self._before.get(number))

    def hand_over(self, noted: int, ends: bool) -> None:
        """Let whoever had the signal before do what it does with `noted`, which all agreed upon.

        If the run `ends`, SystemExit is raised as is usual for the signal: with 0 in processes that
        do not lead, because their failure would be taken for the run's, and the leading one be
        killed.
        """
        if ends:
            self.give_back()
            noted = max(noted, self.noted)
        if self.noted <= noted:
            self.noted = 0
        number = SIGNALS[noted - 1]
        before = self._before.get(number)
        if callable(before) and before is not signal.default_int_handler:
            before(number, None)
        elif self.leads and number not in (signal.SIGINT, signal.SIGTERM) and slurm_job():
            requeue(slurm_job())
        if ends:
            raise SystemExit(128 + number if self.leads else 0)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGINT:
            if self.noted:  # the second time: at once
                raise KeyboardInterrupt
            if self.leads and os.getpid() == self._process:  # not in one that fetches data
                # A handler may come in the middle of another print, which then refuses.
                with contextlib.suppress(RuntimeError):
                    print(
                        "\nstopping after this step (Ctrl-C again: at once, without saving)",
                        flush=True,
                    )
        self.noted = max(self.noted, SIGNALS.index(signum) + 1)
