"""Sharing of models between threads and forked processes: locks that a fork does not leave locked."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["EvaluationMode", "ForkSafeLock"]


class ForkSafeLock:
    """A reentrant lock that is free in a forked child, whichever thread of the parent held it.

    Used as `with lock:`. Copies and unpickled locks are new and free.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exception: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[ForkSafeLock], tuple[()]]:
        return ForkSafeLock, ()

    def reset(self) -> None:
        """Replaces the lock by a free one: only the forking thread exists in a child process."""
        self._lock = threading.RLock()


class EvaluationMode:
    """Keeps a model in evaluation mode on one device while any thread computes with it.

    `nn.Module.eval` and `to` change a model for every thread. The first thread that enters changes it and the last
    thread that leaves restores it; a thread that needs another device waits until the others have left.
    """

    def __init__(self) -> None:
        self.reset()
        _modes.add(self)

    def reset(self) -> None:
        """Forgets the threads that a forked child does not have."""
        self._condition = threading.Condition()
        self._thread_count = 0
        self._device: torch.device | None = None
        self._was_training = False

    @contextmanager
    def __call__(self, model: nn.Module, device: torch.device) -> Iterator[nn.Module]:
        """Yields the model on the device, in evaluation mode."""
        with self._condition:
            self._condition.wait_for(lambda: not self._thread_count or self._device == device)
            if not self._thread_count:
                self._was_training, self._device = model.training, device
                model.to(device)
                model.eval()
            self._thread_count += 1
        try:
            yield model
        finally:
            with self._condition:
                self._thread_count -= 1
                if not self._thread_count:
                    if self._was_training:
                        model.train()
                    self._condition.notify_all()

    def __reduce__(self) -> tuple[type[EvaluationMode], tuple[()]]:
        return EvaluationMode, ()


_locks: weakref.WeakSet[ForkSafeLock] = weakref.WeakSet()
_modes: weakref.WeakSet[EvaluationMode] = weakref.WeakSet()


def _reset_all() -> None:
    for lock in _locks:
        lock.reset()
    for mode in _modes:
        mode.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)
