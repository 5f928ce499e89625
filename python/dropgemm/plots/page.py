"""A page that pictures are laid out on, and the colours and letters that they share.

Lengths are pixels of a PNG, counted from the upper left corner; a page is as high as what stands
on it. Needs matplotlib, and leaves its global state alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import style as styles
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.transforms import Affine2D

DPI = 200
MARGIN = 48
TILE_WITH_LINES = 12  # pixels of a tile from which on lines set it off from the next

# Blue on grey is told apart in every kind of colour vision, and in print.
KEPT = "#2f6cad"
DROPPED = "#e6e9ed"
INK = "#1f2933"
QUIET = "#5f6b7a"
LINE = "#b8c0ca"

TITLE, HEADING, BODY, SMALL = 13.0, 10.0, 8.5, 7.5  # points

KEEP_COLOURS = ListedColormap([DROPPED, KEPT])
# Grey for nothing; from pale blue to the blue of what is kept for a share in (0, 1].
SHARE_COLOURS = LinearSegmentedColormap.from_list("share", ["#cfe0f2", KEPT]).with_extremes(
    under=DROPPED
)


@contextmanager
def house_style() -> Iterator[None]:
    """matplotlib's own defaults, whatever the user's are, while a page is made and saved."""
    with styles.context(["default", {"svg.hashsalt": "dropgemm"}]):
        yield


class Page:
    """A figure of a fixed width that grows downwards."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.bottom = 0.0
        self.figure = Figure(dpi=DPI, facecolor="white")
        self._canvas = FigureCanvasAgg(self.figure)
        self._to_inches = Affine2D()
        self._transform = self._to_inches + self.figure.dpi_scale_trans
        self._panels: list[tuple[Axes, tuple[float, float, float, float]]] = []

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float = BODY,
        colour: str = INK,
        width: float | None = None,
        **style: Any,
    ) -> float:
        """Writes text below y, wrapped to `width` pixels; returns where it ends."""
        font = FontProperties(size=size, weight=style.get("weight", "normal"))
        lines = text.split("\n") if width is None else self._wrapped(text, font, width)
        advance = 1.45 * size / 72 * DPI
        for line in lines:
            # Set by the baseline, so that lines are evenly far apart whatever letters they have.
            self.figure.text(
                x,
                y + 0.72 * advance,
                line,
                transform=self._transform,
                fontsize=size,
                color=colour,
                va="baseline",
                parse_math=False,
                **style,
            )
            y += advance
        self.bottom = max(self.bottom, y)
        return y

    def head(self, title: str, introduction: str) -> float:
        """Writes the title of the page and its first words; returns where it ends."""
        width = self.width - 2 * MARGIN
        y = self.text(MARGIN, MARGIN, title, TITLE, width=width, weight="bold")
        return self.text(MARGIN, y, introduction, BODY, QUIET, width=width)

    def text_width(self, text: str, size: float = BODY, weight: str = "normal") -> float:
        """How many pixels a line of text takes."""
        font = FontProperties(size=size, weight=weight)
        return self._measure(text, font)

    def rectangle(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """Fills a rectangle."""
        patch = Rectangle((x, y), width, height, facecolor=colour, transform=self._transform)
        self.figure.add_artist(patch)
        self.bottom = max(self.bottom, y + height)

    def panel(self, x: float, y: float, width: float, height: float) -> Axes:
        """Axes without ticks on a rectangle of the page."""
        axes = self.figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
        self._panels.append((axes, (x, y, width, height)))
        self.bottom = max(self.bottom, y + height)
        return axes

    def legend(self, x: float, y: float, entries: dict[str, str], size: float = BODY) -> float:
        """Squares of colour with their meaning behind them, in a line; returns where it ends."""
        side = round(0.8 * size / 72 * DPI)
        for meaning, colour in entries.items():
            self.rectangle(x, y + 0.3 * side, side, side, colour)
            end = self.text(x + 1.5 * side, y, meaning, size)
            x += 1.5 * side + self.text_width(meaning, size) + 2 * side
        return end

    def save(self, path: Path) -> None:
        """Writes the page in the format of the file's suffix; the same page, the same bytes."""
        height = self.bottom + MARGIN
        self.figure.set_size_inches(self.width / DPI, height / DPI)
        self._to_inches.clear().scale(1 / DPI, -1 / DPI).translate(0, height / DPI)
        for axes, (x, y, w, h) in self._panels:
            axes.set_position((x / self.width, 1 - (y + h) / height, w / self.width, h / height))
        undated: dict[str, dict[str, str | None]] = {
            ".png": {"Software": None},
            ".svg": {"Date": None},
            ".pdf": {"CreationDate": None},
        }
        self.figure.savefig(path, dpi=DPI, metadata=undated[path.suffix])

    def _measure(self, text: str, font: FontProperties) -> float:
        renderer: Any = self._canvas.get_renderer()
        width, _, _ = renderer.get_text_width_height_descent(text, font, False)
        return float(width)

    def _wrapped(self, text: str, font: FontProperties, width: float) -> list[str]:
        lines = []
        for paragraph in text.split("\n"):
            line = ""
            for word in paragraph.split(" "):
                longer = f"{line} {word}" if line else word
                if line and self._measure(longer, font) > width:
                    lines.append(line)
                    line = word
                else:
                    line = longer
            lines.append(line)
        return lines


def draw_array(
    page: Page,
    values: npt.NDArray[Any],
    x: float,
    y: float,
    scale: float,
    colours: Colormap = KEEP_COLOURS,
    low: float = 0.0,
    tile: tuple[int, int] = (1, 1),
) -> Axes:
    """A matrix as an image, `scale` pixels an element; `low` is the value of the first colour.

    tile: rows and columns between which white lines are drawn, where there is room for them.
    """
    rows, cols = values.shape
    axes = page.panel(x, y, cols * scale, rows * scale)
    # An average of elements where they, and the tiles that share a value, are too small to be seen.
    method = "none" if scale >= 1 or min(tile) * scale >= 4 else "antialiased"
    axes.imshow(
        values, cmap=colours, vmin=low, vmax=1, aspect="auto", interpolation=method,
        interpolation_stage="rgba", extent=(0, cols, rows, 0),
    )  # fmt: skip
    for extent, step, line in ((rows, tile[0], axes.axhline), (cols, tile[1], axes.axvline)):
        if step * scale >= TILE_WITH_LINES:
            for at in range(step, extent, step):
                line(at, color="white", linewidth=0.7)
    return axes


def scale_to_fit(elements: int, pixels: int) -> float:
    """Pixels of an element where `elements` are to fit: a whole number unless there are more."""
    return pixels // elements if elements <= pixels else pixels / elements


def percent(share: float) -> str:
    """A share in words: "50 %", "12.5 %", with a space that does not break."""
    digits = f"{100 * share:.1f}".removesuffix(".0")
    return f"{digits}\N{NO-BREAK SPACE}%"


def as_image(mask: Any) -> npt.NDArray[np.bool_]:
    """The kept elements of a mask, as they are drawn."""
    return np.asarray(mask.to_dense())
