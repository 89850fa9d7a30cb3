"""Words on the screen that are told again and again, and seldom are others."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static


def tell(label: Static, words: Content, look: str = "") -> None:
    """Let ``label``, of one line, show ``words``, which is drawn only where they are new.

    What is around it is laid out anew only where it takes another width.

    Args:
        look: the style class that it has, and no other.
    """
    before = label.content
    if words != before:
        same = isinstance(before, Content) and before.cell_length == words.cell_length
        label.update(words, layout=not same)
    if look and label.classes != {look}:
        label.set_classes(look)
