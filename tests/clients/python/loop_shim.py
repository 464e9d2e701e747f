"""Lets clients written for Python before 3.10 run on newer ones.

They pass `loop=` to parts of asyncio that take it no longer. It never named another loop than the running one, so
dropping it changes nothing. Import this before the client; the client itself stays as it was released.
"""

import asyncio
import functools


def _without_loop(original):
    if isinstance(original, type):

        class Shimmed(original):
            def __init__(self, *args, loop=None, **kwargs):
                super().__init__(*args, **kwargs)

        Shimmed.__name__ = original.__name__
        Shimmed.__qualname__ = original.__qualname__
        return Shimmed

    @functools.wraps(original)
    def shimmed(*args, loop=None, **kwargs):
        return original(*args, **kwargs)

    return shimmed


for _name in (
    "Condition",
    "Event",
    "Lock",
    "Queue",
    "Semaphore",
    "gather",
    "open_connection",
    "sleep",
    "wait",
    "wait_for",
):
    setattr(asyncio, _name, _without_loop(getattr(asyncio, _name)))
