"""Formats of numbers in the page; the script uses the same rules."""

import math
from collections.abc import Iterable
from typing import Any, Literal

Kind = Literal["text", "count", "effect", "z", "p", "share"]
DIGITS = 5  # significant digits of numbers in the page


def shown(value: Any, kind: Kind) -> str:
    """A value as text; empty if it is undefined.

    >>> shown(-0.12345, "effect"), shown(12345, "count"), shown(2.57e-244, "p"), shown(float("nan"), "z")
    ('−0.123', '12,345', '2.57e-244', '')
    """
    if kind == "text":
        return str(value)
    if value is None or math.isnan(value):
        return ""
    if kind == "count":
        text = f"{value:,.0f}"
    elif kind == "p":
        text = "<1e-300" if 0 <= value < 1e-300 else f"{value:.2e}".replace("e-0", "e-") if value < 0.001 else f"{value:.3g}"
    else:
        text = f"{value:.{2 if kind == 'z' else 3}f}"
    return signed(text, plus=False)


def signed(text: str, *, plus: bool = True) -> str:
    """A formatted number with a true minus sign, a plus sign on request, and no sign if all its digits are zero.

    >>> signed("-0.00"), signed("-1.5"), signed("1.5")
    ('0.00', '−1.5', '+1.5')
    """
    text = text.lstrip("+")
    if not text.strip("-0."):
        return text.lstrip("-")
    return "−" + text[1:] if text.startswith("-") else f"+{text}" if plus else text


def packed(values: Iterable[float], digits: int = DIGITS) -> str:
    """Numbers as a compact JSON list; values that are not finite are null."""
    return "[" + ",".join(f"{v:.{digits}g}" if math.isfinite(v) else "null" for v in values) + "]"
