"""Plots of columns, drawn by matplotlib."""

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

from table_columns import TableInputError, suggestion

logging.getLogger("matplotlib").setLevel(logging.ERROR)

_MAX_POINTS = 100_000
_MAX_BARS = 300
_MAX_SERIES = 8
_MAX_LABEL_CHARACTERS = 40
_MAX_TICKS = 40
_DPI = 100
_WIDE_FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "PingFang SC")
_DEFAULT_FONT = "DejaVu Sans"


@dataclass(frozen=True)
class PlotOptions:
    """Parameters of a plot."""

    kind: str
    x: str
    y: list[str]
    combine: str
    bins: int
    logarithmic: bool
    title: str
    width: int
    height: int


def draw_plot(frame: pl.DataFrame, plot: PlotOptions, path: Path) -> tuple[int, list[str]]:
    """Draw columns as a PNG image.

    Returns:
        Number of rows drawn, and messages about columns and rows that were omitted.

    Raises:
        TableInputError: There is nothing to draw, or a column has an unsuitable type.
    """
    problems: list[str] = []
    columns = _columns(frame, plot, problems)
    if plot.combine != "none" and plot.x and plot.kind != "histogram":
        frame = _combined_rows(frame, plot, columns)
    frame = _limited_rows(frame, plot, problems)
    installed = {font.name for font in font_manager.fontManager.ttflist}
    fonts = [_DEFAULT_FONT, *(name for name in _WIDE_FONTS if name in installed)]
    # Without parse_math, a $ in a name does not start a formula.
    with mpl.rc_context(
        {"text.parse_math": False, "font.family": fonts, "date.converter": "concise"}
    ):
        figure = Figure((plot.width / _DPI, plot.height / _DPI), _DPI, layout="constrained")
        FigureCanvasAgg(figure)
        _draw(figure.add_subplot(), frame, plot, columns)
        figure.savefig(path, format="png")
    return frame.height, problems


def _columns(frame: pl.DataFrame, plot: PlotOptions, problems: list[str]) -> list[str]:
    numbers = [name for name, kind in frame.schema.items() if kind.is_numeric()]
    if plot.combine == "count" and plot.x and not plot.y:
        return [plot.x]
    if plot.y:
        for name in plot.y:
            if name not in numbers and plot.combine != "count":
                kind = frame.schema[name]
                hint = suggestion(name, numbers, "columns of numbers") if numbers else ""
                raise TableInputError(f"{name}: only numbers can be drawn, not {kind}; {hint}")
        return list(dict.fromkeys(plot.y))
    chosen = [name for name in numbers if name != plot.x]
    if not chosen:
        raise TableInputError("the table has no column of numbers to draw")
    if len(chosen) > _MAX_SERIES:
        problems.append(
            f"only the first {_MAX_SERIES} of {len(chosen)} columns of numbers are drawn"
        )
    return chosen[:_MAX_SERIES]


def _combined_rows(frame: pl.DataFrame, plot: PlotOptions, columns: list[str]) -> pl.DataFrame:
    # Temporary names, because the column of the x axis may also be a column to combine.
    combined = [
        getattr(pl.col(name), plot.combine)().alias(f"y{index}")
        for index, name in enumerate(columns)
    ]
    groups = frame.group_by(pl.col(plot.x).alias("x"), maintain_order=True).agg(combined)
    if plot.kind != "bar":
        groups = groups.sort("x", nulls_last=True)
    columns[:] = [f"{name} ({plot.combine})" for name in columns]
    names = dict(zip((f"y{index}" for index in range(len(columns))), columns, strict=True))
    return groups.rename({"x": plot.x, **names})


def _limited_rows(frame: pl.DataFrame, plot: PlotOptions, problems: list[str]) -> pl.DataFrame:
    if frame.height == 0:
        raise TableInputError("the table has no rows to draw")
    if plot.kind == "bar" and frame.height > _MAX_BARS:
        problems.append(f"only the first {_MAX_BARS} of {frame.height:,} bars are drawn")
        return frame.head(_MAX_BARS)
    if plot.kind != "histogram" and frame.height > _MAX_POINTS:
        step = -(-frame.height // _MAX_POINTS)
        problems.append(f"only one in {step} of the {frame.height:,} rows is drawn")
        return frame.gather_every(step)
    return frame


def _draw(axes: Axes, frame: pl.DataFrame, plot: PlotOptions, columns: list[str]) -> None:
    labels = [_label(name) for name in columns]
    values = [frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy() for name in columns]
    if plot.kind == "histogram":
        numbers = [frame[name].cast(pl.Float64).drop_nulls() for name in columns]
        finite = [cells.filter(cells.is_finite()).to_numpy() for cells in numbers]
        if not any(len(cells) for cells in finite):
            raise TableInputError("the columns contain no numbers to draw")
        axes.hist(finite, plot.bins, label=labels, log=plot.logarithmic)
        axes.set_ylabel("rows")
    else:
        x, tick_labels = _x_values(frame, plot)
        for index, (label, cells) in enumerate(zip(labels, values, strict=True)):
            if plot.kind == "line":
                axes.plot(x, cells, label=label, marker="." if frame.height <= 60 else "")
            elif plot.kind == "scatter":
                axes.scatter(x, cells, 12, label=label)
            else:
                bar_width = 0.8 / len(columns)
                offset = index * bar_width - 0.4 + bar_width / 2
                positions = [row + offset for row in range(frame.height)]
                axes.bar(positions, cells, bar_width, label=label)
        if tick_labels is not None:
            step = -(-len(tick_labels) // _MAX_TICKS)
            shown = tick_labels[::step]
            rotation = 0 if sum(map(len, shown)) < plot.width / 10 else 60
            align: Any = "center" if rotation == 0 else "right"
            ticks = range(0, len(tick_labels), step)
            axes.set_xticks(ticks, shown, rotation=rotation, ha=align)
        axes.set_xlabel(_label(plot.x))
        if plot.logarithmic:
            axes.set_yscale("log")
    if len(labels) > 1:
        axes.legend()
    elif plot.kind == "histogram":
        axes.set_xlabel(labels[0])
    else:
        axes.set_ylabel(labels[0])
    axes.set_title(plot.title)
    axes.set_axisbelow(True)
    axes.grid(True, alpha=0.3)


def _x_values(frame: pl.DataFrame, plot: PlotOptions) -> tuple[Any, list[str] | None]:
    """Return the values of the x axis, and tick labels if it is not a numeric or date axis."""
    if not plot.x:
        rows = range(1, frame.height + 1)
        return rows, [str(row) for row in rows] if plot.kind == "bar" else None
    cells = frame[plot.x]
    is_continuous = cells.dtype.is_numeric() or isinstance(cells.dtype, pl.Date | pl.Datetime)
    if is_continuous and plot.kind != "bar":
        return cells.to_numpy(), None
    if cells.dtype.is_nested():
        raise TableInputError(
            f"x: column {plot.x} of type {cells.dtype} cannot be used as the x axis"
        )
    return range(frame.height), [_label("" if cell is None else str(cell)) for cell in cells]


def _label(text: str) -> str:
    # Labels that begin with _ are hidden by matplotlib.
    line = "".join(letter if letter.isprintable() else " " for letter in text).lstrip("_")
    return line if len(line) <= _MAX_LABEL_CHARACTERS else line[: _MAX_LABEL_CHARACTERS - 1] + "…"
