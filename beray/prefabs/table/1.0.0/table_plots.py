"""Pictures of columns, by matplotlib."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import polars as pl
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from table_names import BadInput, suggestion

logging.getLogger("matplotlib").setLevel(logging.ERROR)

_MOST_POINTS = 100_000
_MOST_BARS = 300
_MOST_SERIES = 8
_LONGEST_LABEL = 40
_DPI = 100
_WIDE_FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "PingFang SC")
_FONTS_FALLBACK = "DejaVu Sans"


@dataclass(frozen=True)
class Drawing:
    """What is to be drawn."""

    kind: str
    x: str
    y: list[str]
    combine: str
    bins: int
    logarithmic: bool
    title: str
    width: int
    height: int


def draw(frame: pl.DataFrame, drawing: Drawing, path: Path) -> tuple[int, list[str]]:
    """Draw the columns into a PNG; how many rows are in it, and what is not as it was asked.

    Raises:
        BadInput: they cannot be drawn so.
    """
    problems: list[str] = []
    columns = _columns(frame, drawing, problems)
    if drawing.combine != "none" and drawing.x and drawing.kind != "histogram":
        frame = _combined(frame, drawing, columns)
    frame = _few(frame, drawing, problems)
    there = {font.name for font in font_manager.fontManager.ttflist}
    fonts = [_FONTS_FALLBACK, *(name for name in _WIDE_FONTS if name in there)]
    # A $ in a name is a $, and no formula.
    with mpl.rc_context(
        {"text.parse_math": False, "font.family": fonts, "date.converter": "concise"}
    ):
        figure = Figure((drawing.width / _DPI, drawing.height / _DPI), _DPI, layout="constrained")
        FigureCanvasAgg(figure)
        _draw(figure.add_subplot(), frame, drawing, columns)
        figure.savefig(path, format="png")
    return frame.height, problems


def _columns(frame: pl.DataFrame, drawing: Drawing, problems: list[str]) -> list[str]:
    numbers = [name for name, kind in frame.schema.items() if kind.is_numeric()]
    if drawing.combine == "count" and drawing.x and not drawing.y:
        return [drawing.x]
    if drawing.y:
        for name in drawing.y:
            if name not in numbers and drawing.combine != "count":
                kind = frame.schema[name]
                hint = suggestion(name, numbers, "columns of numbers") if numbers else ""
                raise BadInput(f"{name}: only numbers can be drawn, not {kind}; {hint}")
        return list(dict.fromkeys(drawing.y))
    chosen = [name for name in numbers if name != drawing.x]
    if not chosen:
        raise BadInput("there is no column of numbers to draw")
    if len(chosen) > _MOST_SERIES:
        problems.append(
            f"only the first {_MOST_SERIES} of {len(chosen)} columns of numbers are drawn"
        )
    return chosen[:_MOST_SERIES]


def _combined(frame: pl.DataFrame, drawing: Drawing, columns: list[str]) -> pl.DataFrame:
    # Under names of their own: the column along the bottom may be one that is counted.
    made = [
        getattr(pl.col(name), drawing.combine)().alias(f"y{place}")
        for place, name in enumerate(columns)
    ]
    found = frame.group_by(pl.col(drawing.x).alias("x"), maintain_order=True).agg(made)
    if drawing.kind != "bar":
        found = found.sort("x", nulls_last=True)
    columns[:] = [f"{name} ({drawing.combine})" for name in columns]
    names = dict(zip((f"y{place}" for place in range(len(columns))), columns, strict=True))
    return found.rename({"x": drawing.x, **names})


def _few(frame: pl.DataFrame, drawing: Drawing, problems: list[str]) -> pl.DataFrame:
    if frame.height == 0:
        raise BadInput("there are no rows to draw")
    if drawing.kind == "bar" and frame.height > _MOST_BARS:
        problems.append(f"only the first {_MOST_BARS} of {frame.height:,} bars are drawn")
        return frame.head(_MOST_BARS)
    if drawing.kind != "histogram" and frame.height > _MOST_POINTS:
        step = -(-frame.height // _MOST_POINTS)
        problems.append(f"one of {step} rows is drawn, for there are {frame.height:,}")
        return frame.gather_every(step)
    return frame


def _draw(axes: Axes, frame: pl.DataFrame, drawing: Drawing, columns: list[str]) -> None:
    labels = [_label(name) for name in columns]
    values = [frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy() for name in columns]
    if drawing.kind == "histogram":
        finite = [frame[name].cast(pl.Float64).drop_nulls() for name in columns]
        kept = [cells.filter(cells.is_finite()).to_numpy() for cells in finite]
        if not any(len(cells) for cells in kept):
            raise BadInput("there are no numbers to draw")
        axes.hist(kept, drawing.bins, label=labels, log=drawing.logarithmic)
        axes.set_ylabel("rows")
    else:
        along, names = _along(frame, drawing)
        for place, (label, cells) in enumerate(zip(labels, values, strict=True)):
            if drawing.kind == "line":
                axes.plot(along, cells, label=label, marker="." if frame.height <= 60 else "")
            elif drawing.kind == "scatter":
                axes.scatter(along, cells, 12, label=label)
            else:
                wide = 0.8 / len(columns)
                places = [at + place * wide - 0.4 + wide / 2 for at in range(frame.height)]
                axes.bar(places, cells, wide, label=label)
        if names is not None:
            step = -(-len(names) // 40)
            turned = 0 if sum(map(len, names[::step])) < drawing.width / 10 else 60
            ends: Any = "center" if turned == 0 else "right"
            axes.set_xticks(range(0, len(names), step), names[::step], rotation=turned, ha=ends)
        axes.set_xlabel(_label(drawing.x))
        if drawing.logarithmic:
            axes.set_yscale("log")
    if len(labels) > 1:
        axes.legend()
    elif drawing.kind == "histogram":
        axes.set_xlabel(labels[0])
    else:
        axes.set_ylabel(labels[0])
    axes.set_title(drawing.title)
    axes.set_axisbelow(True)
    axes.grid(True, alpha=0.3)


def _along(frame: pl.DataFrame, drawing: Drawing) -> tuple[Any, list[str] | None]:
    """What is along the bottom, and the names it is marked with where it is no scale."""
    if not drawing.x:
        names = [str(row) for row in range(1, frame.height + 1)] if drawing.kind == "bar" else None
        return range(1, frame.height + 1), names
    cells = frame[drawing.x]
    scale = cells.dtype.is_numeric() or isinstance(cells.dtype, pl.Date | pl.Datetime)
    if scale and drawing.kind != "bar":
        return cells.to_numpy(), None
    if cells.dtype.is_nested():
        raise BadInput(f"{drawing.x}: {cells.dtype} cannot be along the bottom")
    return range(frame.height), [_label("" if cell is None else str(cell)) for cell in cells]


def _label(text: str) -> str:
    line = "".join(letter if letter.isprintable() else " " for letter in text).lstrip("_")
    return line if len(line) <= _LONGEST_LABEL else line[: _LONGEST_LABEL - 1] + "…"
