"""Encode a figure as a small PNG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLORS = 256  # with fewer, thin lines of different colours come out alike


def png(figure: Figure) -> bytes:
    """Encode a figure as a PNG with few colours: half of the bytes, and no visible loss."""
    from PIL import Image

    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    image = Image.fromarray(np.ascontiguousarray(pixels)).quantize(_COLORS)
    buffer = io.BytesIO()
    image.save(buffer, format="png")
    return buffer.getvalue()
