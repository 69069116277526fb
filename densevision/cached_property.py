"""`cached_property` without a lock: up to Python 3.11, that of functools has one, shared by all instances of a class.

A fork while another thread computes such a property leaves the lock held for ever in the child.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

__all__ = ["cached_property"]

T = TypeVar("T")

if sys.version_info >= (3, 12):
    from functools import cached_property
else:

    class cached_property(Generic[T]):
        """A property that is computed at its first use; threads may compute it twice, and the last value is kept."""

        def __init__(self, compute: Callable[[Any], T]) -> None:
            self.compute = compute
            self.__doc__ = compute.__doc__

        def __set_name__(self, owner: type, name: str) -> None:
            self.name = name

        @overload
        def __get__(self, instance: None, owner: type) -> cached_property[T]: ...
        @overload
        def __get__(self, instance: object, owner: type) -> T: ...
        def __get__(self, instance: object | None, owner: type) -> cached_property[T] | T:
            if instance is None:
                return self
            value = instance.__dict__[self.name] = self.compute(instance)
            return value
