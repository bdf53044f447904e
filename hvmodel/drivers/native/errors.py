"""What can go wrong before a native driver runs."""

from __future__ import annotations


class NativeError(ValueError):
    """A native driver cannot be built or loaded; the text is one line for the person at the keyboard."""
