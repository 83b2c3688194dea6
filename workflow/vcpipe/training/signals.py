"""When to stop in good order: a signal came, or the job's time is nearly over."""

import os
import signal
import time

# Sent by clusters before they end a job, and by the keyboard; a second SIGINT means now.
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
# Enough to finish an update and write a checkpoint.
MARGIN_SECONDS = 180


class StopRequest:
    """True once this process should stop; training looks at it between updates.

    Nothing is done inside a handler: a signal may arrive in the middle of an update, and of
    processes that train together only one may get it.
    """

    def __enter__(self) -> "StopRequest":
        self.reason: str | None = None
        # Slurm sets it; a job without a limit has none.
        end = os.environ.get("SLURM_JOB_END_TIME", "")
        self.deadline = float(end) - MARGIN_SECONDS if end.isdigit() else float("inf")
        self.before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame) -> None:
        if number == signal.SIGINT and self.reason is not None:
            raise KeyboardInterrupt
        self.reason = f"a signal ({signal.Signals(number).name})"

    def __bool__(self) -> bool:
        if self.reason is None and time.time() > self.deadline:
            self.reason = f"the job's time, which is over in {MARGIN_SECONDS} s"
        return self.reason is not None
