"""What is said about a feature that keeps the gateway from starting: one line with the feature and its hook.

Holds this error and what turns a failed hook into it; what calls a hook before
the gateway runs does so within a ``Hook``. The danger is the text of
an unforeseen exception, which may quote a secret of the configuration: it is
named by its type and the places that it passed through.
"""

from __future__ import annotations

from traceback import walk_tb

#: How many places of an unforeseen exception are named, those nearest to it.
MAX_PLACES = 6

# Their texts name a file, an address or a module, and what is wrong with it.
_TELLING = (OSError, ImportError)


class FeatureError(ValueError):
    """The gateway cannot start with its features; the text is one line for the person who starts it."""


class Hook:
    """Call a hook of a feature within this, and use up what it yields; if it fails, a ``FeatureError`` is raised.

    Args:
        feature: the feature's name.
        name: the hook's name.
    """

    __slots__ = ("_feature", "_name")

    def __init__(self, feature: str, name: str) -> None:
        self._feature = feature
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        # One hook may ask another feature, whose failure it is then. The end of the process or the task is no failure.
        if isinstance(error, Exception) and not isinstance(error, FeatureError):
            raise FeatureError(f'feature "{self._feature}": {self._name} failed: {_cause(error)}') from error


def _cause(error: Exception) -> str:
    """Return what happened, on one line: for an operator where possible, and for a programmer."""
    text = " ".join(str(error).split())
    if isinstance(error, _TELLING) and text:
        return text
    frames = [(frame.f_code.co_qualname, line) for frame, line in walk_tb(error.__traceback__)]
    places = [f"{name}:{line}" for name, line in frames[1:] or frames]  # the first is the caller of the hook
    return f"{type(error).__name__} at {' > '.join(places[-MAX_PLACES:])}"
