"""Text from elsewhere, made safe to print.

Names, messages and versions come from implementations, frameworks and records. None of it may move
the cursor, change colours, reverse the reading direction or fill the screen. This module decides
what is left of such a text; whoever prints it still escapes for the medium (HTML, Markdown, rich).
"""

from __future__ import annotations

import re
import unicodedata

# CSI, OSC and DCS strings with their arguments, then any other two-character escape.
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"
    r"|\x1b[ -/]*[0-~]"
    r"|\x9b[0-?]*[ -/]*[@-~]"
)

# Cc: control characters. Cf: bidirectional marks and other invisible formatting. Cs: lone
# surrogates, which cannot be written as UTF-8. Zl, Zp: line and paragraph separators.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

# Letters and symbols by category, blanks to the eye: the Hangul fillers and the empty Braille cell.
_BLANKS = frozenset("\u115f\u1160\u3164\uffa0\u2800")


def is_visible(character: str) -> bool:
    """Return whether a character shows, and changes nothing but its own place.

    Spaces and line breaks are for the caller to decide on: of these, only U+0020 and the other
    space separators count as visible here.
    """
    if character.isascii():
        return character.isprintable()
    return unicodedata.category(character) not in _INVISIBLE and character not in _BLANKS


def exact(text: object) -> str:
    """Return `text` as a plain string, whatever it is and whatever its class says that it is.

    A subclass of str can lie about its length, its slices and its encoding; a ``__str__`` can
    raise anything or return such a subclass.
    """
    try:
        return str.__str__(text if isinstance(text, str) else str(text))
    except BaseException:
        return "<cannot be printed>"


def type_name(value: object) -> str:
    """Return the name of a value's class as Python keeps it, whatever a metaclass says."""
    return exact(type.__dict__["__name__"].__get__(type(value)))


def printable(text: object, limit: int = 300) -> str:
    """Return `text` as one line of visible characters.

    Terminal escape sequences, control characters, bidirectional and other invisible marks are
    removed, runs of white space (line breaks too) become one space, and what is longer than
    `limit` characters ends in an ellipsis.

    Parameters
    ----------
    text
        Anything; what is not a string is converted first.
    limit
        Largest number of characters of the answer; at least 1.
    """
    # A megabyte of text is cut before it is searched, with room for what is removed.
    whole = exact(text)
    raw = whole[: 8 * limit + 1024]
    visible = "".join(
        " " if c.isspace() else c for c in _ESCAPES.sub("", raw) if c.isspace() or is_visible(c)
    )
    clean = " ".join(visible.split())
    if len(clean) <= limit and len(raw) == len(whole):
        return clean
    return clean[: limit - 1] + "…"
