"""Ctrl-C and SIGTERM: when a training responds to them, and which processes receive them."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Any

PATIENCE = 2.0  # seconds after which a second signal interrupts the step under way


def interruptible() -> AbstractContextManager[None]:
    """Inside, SIGTERM (a cluster's time limit, ``kill``) raises KeyboardInterrupt, as Ctrl-C does."""
    return _handled(signal.SIGTERM, signal.default_int_handler)


def deaf_to_ctrl_c() -> AbstractContextManager[None]:
    """Processes started inside ignore Ctrl-C, which a terminal sends to all; their parent ends them."""
    return _handled(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _handled(number: int, handler: "signal._HANDLER") -> Iterator[None]:
    """A handler for one signal, in the main thread; the former handler is restored on exit."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, former)


def end_with_parent() -> None:
    """End this process, by SIGTERM, soon after its parent has died for any reason."""

    def watch(parent: multiprocessing.process.BaseProcess) -> None:
        parent.join()
        while True:  # the first signal may only end a training, with its checkpoint
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

    threading.Thread(target=watch, args=(multiprocessing.parent_process(),), daemon=True).start()


class HeldSignals:
    """Inside, SIGINT and SIGTERM wait for :meth:`deliver`, so that a step is never left half done.

    A second signal, more than two seconds after the first, interrupts at once (``forced``), even in the middle of a
    step. Signals that are ignored or end the process at once, and other threads, are left alone.
    """

    def __init__(self) -> None:
        self.forced = False
        self._waiting: list[tuple[int, FrameType | None]] = []
        self._first = 0.0
        self._former: dict[int, Callable[[int, FrameType | None], Any]] = {}

    def __enter__(self) -> "HeldSignals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if callable(handler := signal.getsignal(number)):
                    self._former[number] = handler
                    signal.signal(number, self._arrived)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        if kind is None or issubclass(kind, Exception):
            self.deliver()

    def deliver(self) -> None:
        """Call the former handlers of the signals that wait."""
        while self._waiting:
            number, frame = self._waiting.pop(0)
            self._former[number](number, frame)

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        if self._waiting and time.monotonic() - self._first > PATIENCE:
            self.forced = True
            self._former[number](number, frame)
            self.forced = False  # its handler returned: nothing was interrupted
            return
        if not self._waiting:
            self._first = time.monotonic()
        self._waiting.append((number, frame))
