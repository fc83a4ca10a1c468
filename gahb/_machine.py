"""The machine under a training: its devices, its signals, its terminal."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from contextlib import contextmanager

import torch
from tqdm.asyncio import tqdm_asyncio
from tqdm.auto import tqdm

LOG_SECONDS = 30.0  # between two lines of progress in a log
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # of mallopt, in the malloc.h of glibc


def pick_device(device="auto"):
    """A torch device: ``"auto"`` takes cuda, then cpu.

    ``"mps"`` can train; it lacks the float64 of the analyses.

    Raises
    ------
    ValueError
        If the device is unknown or not there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device("cuda" if available["cuda"] else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError):
        chosen = None
    count = torch.cuda.device_count() if chosen is not None and chosen.type == "cuda" else 1
    if chosen is None or not available.get(chosen.type, False) or (chosen.index or 0) >= count:
        there = ", ".join(name for name, found in available.items() if found)
        raise ValueError(f"device {device!r} is not available here; take auto or one of {there}")
    return chosen


def has_bfloat16_units(device):
    """Whether bfloat16 products are faster than float32 ones on a device."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return torch.cpu._is_amx_tile_supported()  # AVX-512's bfloat16 was measured slower than its float32
    return False


@contextmanager
def keeping_memory():
    """Inside, memory that is freed stays with this process, for the next tensor of that size.

    The allocator of glibc gives large tensors back to the system, which clears their pages anew each
    time: a fifth of a training step of the paper's network on a CPU. On exit freed memory goes back,
    and the thresholds are set where glibc's own adjusting leaves them. Does nothing with another
    allocator.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        yield
        return
    mallopt(MMAP_MAX, 0)
    mallopt(TRIM_THRESHOLD, -1)  # never
    try:
        yield
    finally:
        mallopt(MMAP_MAX, 65536)
        mallopt(MMAP_THRESHOLD, 32 * 2**20)
        mallopt(TRIM_THRESHOLD, 64 * 2**20)
        ctypes.CDLL(None).malloc_trim(0)


def progress_bar(total, done, label, show=True):
    """A bar of images; where it would become the lines of a log, one line in half a minute at most."""
    in_log = tqdm is tqdm_asyncio and not sys.stderr.isatty()  # otherwise tqdm is the notebook's widget
    pause = LOG_SECONDS if in_log else 0.5
    return tqdm(
        total=total, initial=done, desc=label, unit="img", unit_scale=True, disable=not show, leave=False,
        mininterval=pause, maxinterval=max(pause, 10.0), delay=pause if in_log else 0,
    )  # fmt: skip


@contextmanager
def interruptible():
    """Let SIGTERM (a cluster's time-out, ``kill``) raise KeyboardInterrupt, as Ctrl-C does.

    The former handler is restored on exit. Does nothing outside the main thread.
    """

    def interrupt(number, frame):
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


@contextmanager
def deaf_to_ctrl_c():
    """Processes that start inside do not hear Ctrl-C, which a terminal sends to all: their parent ends them.

    Does nothing outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


def end_with_parent():
    """End this process, by SIGTERM, soon after the one that started it has died, however it did."""

    def watch(parent):
        parent.join()
        while True:  # the first may only end a training, with its checkpoint
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

    threading.Thread(target=watch, args=(multiprocessing.parent_process(),), daemon=True).start()


class HeldSignals:
    """Hold SIGINT and SIGTERM back, except where they are let in: the state of a training stays whole.

    Each signal goes to the handler that it had, later. Ignored signals and those that end the
    process at once are left alone, and so is everything outside the main thread.
    """

    def __init__(self):
        self._open, self._waiting, self._former = False, [], {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if callable(signal.getsignal(number)):
                    self._former[number] = signal.signal(number, self._arrived)
        return self

    def __exit__(self, *error):
        for number, handler in self._former.items():
            signal.signal(number, handler)
        if error == (None, None, None):
            self._deliver()

    @contextmanager
    def let_in(self):
        """Inside, a signal goes to its handler at once; one that has waited does so on entry."""
        self._open = True
        try:
            self._deliver()
            yield
        finally:
            self._open = False

    def _arrived(self, number, frame):
        self._waiting.append((number, frame))
        if self._open:
            self._deliver()

    def _deliver(self):
        while self._waiting:
            number, frame = self._waiting.pop(0)
            was, self._open = self._open, False  # a second signal must not break into the clearing up
            self._former[number](number, frame)
            self._open = was
