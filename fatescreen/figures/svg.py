"""Small drawings as inline SVG: they take the page's colours, light or dark, and are the same bytes every time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from matplotlib.ticker import MaxNLocator

WIDTH, HEIGHT = 340, 250
SHAPES = (
    "M{x} {y}m-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0z",
    "M{x} {y}m-2.7-2.7h5.4v5.4h-5.4z",
    "M{x} {y}m0-3.6l3.4 6h-6.8z",
    "M{x} {y}m0-3.8l3.8 3.8-3.8 3.8-3.8-3.8z",
)


def tag(name: str, *children: Any, **attributes: Any) -> Markup:
    """An element; text in it and in its attributes is escaped, `class_` is the class, and "_" in a name stands for "-"."""
    own = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items() if value is not None)
    inside = Markup("").join(children)
    return Markup(f"<{name}{own}>{inside}</{name}>" if children else f"<{name}{own}/>")


def num(value: float) -> str:
    """A coordinate, to a tenth of a pixel."""
    text = f"{value:.1f}"
    return "0" if text in ("-0.0", "0.0") else text.removesuffix(".0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One axis: its ends, its label, and its ticks with their texts."""

    low: float
    high: float
    label: str
    ticks: tuple[tuple[float, str], ...]

    @classmethod
    def over(cls, values: Any, label: str, *, margin: float = 0.05, n: int = 5, whole: bool = False) -> "Axis":
        """An axis over these values with round ticks; `whole` for ticks at whole numbers only."""
        finite = np.asarray(values, dtype=np.float64).ravel()
        finite = finite[np.isfinite(finite)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        if not high > low:
            low, high = low - 0.5, high + 0.5
        room = margin * (high - low)
        low, high = low - room, high + room
        at = MaxNLocator(nbins=n, steps=[1, 2, 5, 10], integer=whole).tick_values(low, high)
        return cls(low=low, high=high, label=label, ticks=tuple((float(t), tick_text(float(t))) for t in at if low - 1e-12 <= t <= high + 1e-12))


def tick_text(value: float) -> str:
    """A tick's number."""
    return f"{round(value, 10):,g}".replace("-", "−") if abs(value) < 1e5 else f"{value:,.0f}".replace("-", "−")


class Plot:
    """A drawing with two axes; parts are drawn in the order they are added."""

    def __init__(self, x: Axis, y: Axis, *, width: int = WIDTH, height: int = HEIGHT, left: int = 50, bottom: int = 40):
        self.x, self.y, self.width, self.height = x, y, width, height
        self.left, self.right, self.top, self.bottom = left, width - 10, 10, height - bottom
        self.parts: list[Markup] = []

    def px(self, values: Any) -> np.ndarray:
        """Horizontal places of values."""
        return self.left + (np.asarray(values, dtype=np.float64) - self.x.low) / (self.x.high - self.x.low) * (self.right - self.left)

    def py(self, values: Any) -> np.ndarray:
        """Vertical places of values."""
        return self.bottom - (np.asarray(values, dtype=np.float64) - self.y.low) / (self.y.high - self.y.low) * (self.bottom - self.top)

    def line(self, x: Any, y: Any, style: str) -> None:
        """A line through points."""
        self.path(self.px(x), self.py(y), style)

    def path(self, x: np.ndarray, y: np.ndarray, style: str, *, close: bool = False) -> None:
        """A path through places."""
        at = " ".join(f"{num(a)} {num(b)}" for a, b in zip(x, y, strict=True))
        self.parts.append(tag("path", d=f"M{at}{'z' if close else ''}", class_=style))

    def band(self, x: Any, low: Any, high: Any, style: str = "band") -> None:
        """The area between two lines."""
        across = self.px(x)
        self.path(np.concatenate([across, across[::-1]]), np.concatenate([self.py(low), self.py(high)[::-1]]), style, close=True)

    def segments(self, x0: Any, y0: Any, x1: Any, y1: Any, style: str) -> None:
        """Separate straight lines."""
        ends = zip(self.px(x0), self.py(y0), self.px(x1), self.py(y1), strict=True)
        self.parts.append(tag("path", d="".join(f"M{num(a)} {num(b)}L{num(c)} {num(d)}" for a, b, c, d in ends), class_=style))

    def points(self, x: Any, y: Any, style: str, *, shape: int = 0) -> None:
        """Marks of one of four shapes."""
        places = zip(self.px(x), self.py(y), strict=True)
        self.parts.append(tag("path", d="".join(SHAPES[shape % 4].format(x=num(a), y=num(b)) for a, b in places), class_=style))

    def bars(self, edges: Any, heights: Any, style: str) -> None:
        """Bars from zero."""
        left, right, top, floor = self.px(edges)[:-1], self.px(edges)[1:], self.py(heights), float(self.py([max(0.0, self.y.low)])[0])
        shapes = (f"M{num(a)} {num(floor)}V{num(t)}H{num(max(a, b - 0.6))}V{num(floor)}z" for a, b, t in zip(left, right, top, strict=True) if t < floor)
        self.parts.append(tag("path", d="".join(shapes), class_=style))

    def text(self, x: float, y: float, words: str, *, anchor: str = "start", style: str = "lab") -> None:
        """Words at a place, in pixels."""
        self.parts.append(tag("text", words, x=num(x), y=num(y), text_anchor=anchor, class_=style))

    def svg(self, label: str) -> Markup:
        """The drawing with its axes; `label` says what it shows to those who can't see it."""
        frame = [*self._ticks(), *self.parts, self._label_x(), self._label_y()]
        size = {"viewBox": f"0 0 {self.width} {self.height}", "width": self.width, "height": self.height}
        return tag("svg", *frame, role="img", aria_label=label, **size)

    def _ticks(self) -> list[Markup]:
        across, up = (self.px([t for t, _ in self.x.ticks]), self.py([t for t, _ in self.y.ticks]))
        grid = "".join(f"M{num(a)} {self.top}V{self.bottom}" for a in across) + "".join(f"M{self.left} {num(b)}H{self.right}" for b in up)
        out = [tag("path", d=grid, class_="grid"), tag("path", d=f"M{self.left} {self.top}V{self.bottom}H{self.right}", class_="axis")]
        out += [tag("text", t, x=num(a), y=self.bottom + 15, text_anchor="middle", class_="tick") for a, (_, t) in zip(across, self.x.ticks, strict=True)]
        out += [tag("text", t, x=self.left - 6, y=num(b + 4), text_anchor="end", class_="tick") for b, (_, t) in zip(up, self.y.ticks, strict=True)]
        return out

    def _label_x(self) -> Markup:
        return tag("text", self.x.label, x=num((self.left + self.right) / 2), y=self.height - 6, text_anchor="middle", class_="lab")

    def _label_y(self) -> Markup:
        middle = (self.top + self.bottom) / 2
        return tag("text", self.y.label, x=12, y=num(middle), transform=f"rotate(-90 12 {num(middle)})", text_anchor="middle", class_="lab")


def thin(n: int, most: int) -> Sequence[int] | np.ndarray:
    """At most `most` of the positions 0 … n − 1, the ends among them."""
    return np.arange(n) if n <= most else np.unique(np.linspace(0, n - 1, most).round().astype(np.int64))
