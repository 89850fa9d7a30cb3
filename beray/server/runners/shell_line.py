"""Arguments that make a shell execute a line of any length."""

from __future__ import annotations

from typing import Final

PART_CHARACTERS: Final = 30_000
"""At most 120,000 bytes in UTF-8: Linux limits one argument to 131,071 (execve(2))."""


def arguments(shell: str, line: str) -> list[str]:
    """Return the command that executes ``line``, as ``shell -c LINE`` would.

    A long line is passed as several arguments, which the shell joins and removes again. Nothing
    in the line is taken for an option of the shell.
    """
    if len(line) <= PART_CHARACTERS:
        return [shell, "-c", "--", line]
    parts = [
        line[start : start + PART_CHARACTERS] for start in range(0, len(line), PART_CHARACTERS)
    ]
    joined = "".join(f"${{{number}}}" for number in range(1, len(parts) + 1))
    return [shell, "-c", f'eval "shift {len(parts)}; {joined}"', shell, *parts]
