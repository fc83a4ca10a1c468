"""Progress of a training or a comparison: a bar on a terminal or in a notebook, few lines in a log."""

import sys

from tqdm.asyncio import tqdm_asyncio
from tqdm.auto import tqdm

LOG_SECONDS = 30.0  # between two lines of a log


def progress_bar(total: int, done: int, label: str, show: bool = True, unit: str = "img") -> tqdm:
    """Return a bar of images, or of another unit; in a log it prints at most one line every half minute."""
    in_log = tqdm is tqdm_asyncio and not sys.stderr.isatty()  # otherwise tqdm is the notebook's widget
    pause = LOG_SECONDS if in_log else 0.5
    return tqdm(
        total=total, initial=done, desc=label, unit=unit, unit_scale=True, disable=not show, leave=False,
        mininterval=pause, maxinterval=max(pause, 10.0), delay=pause if in_log else 0,
    )  # fmt: skip
