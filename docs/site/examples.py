"""Docstrings say "Example:", which the reference shows as it shows "Examples:"."""

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Gives sections that stand in the singular the name that Griffe knows."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Changes the docstring of an object that was read."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"(?m)^Example:$", "Examples:", obj.docstring.value)
