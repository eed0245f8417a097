"""Encode a figure as a small PNG, and as an output with words for those who cannot see it."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Bundle = tuple[dict[str, str], dict[str, Any]]
"""The parts of an output by their MIME type, and their metadata."""

LEAST_SCALE = 0.7
"""A picture is made smaller where the page is narrow, up to where its text can still be read."""

_FOLLOWING = "aimz-following"
DARKER, BRIGHTER = 0.85, 1.3
"""Brightness of a picture that follows its page, on light paper and on dark.

No grey has a contrast of 4.5 with both. These give that to :data:`~aimz_lab.lab.pictures.ink.TEXT`,
where the page says its theme as JupyterLab and nbconvert do; elsewhere the picture is as it is.
"""

_COLORS = 255  # with fewer, thin lines of different colours come out alike


def png(*figures: Figure) -> bytes:
    """Encode a figure as a PNG with few colours: half of the bytes, and no visible loss.

    Transparent paper stays transparent. Several figures of one width stand one below the other.
    """
    from PIL import Image

    for figure in figures:
        figure.canvas.draw()
    image = Image.fromarray(np.concatenate([one.canvas.buffer_rgba() for one in figures]))
    buffer = io.BytesIO()
    image.quantize(_COLORS, method=Image.Quantize.FASTOCTREE).save(buffer, format="png")
    return buffer.getvalue()


def _style() -> str:
    themes = (("true", DARKER), ("false", BRIGHTER))
    rules = (
        f'[data-jp-theme-light="{is_light}"] .{_FOLLOWING} {{ filter: brightness({brightness}); }}'
        for is_light, brightness in themes
    )
    return f"<style>{' '.join(rules)}</style>"


def image_tag(encoded: str, alt: str, width: int, *, follows: bool = True) -> str:
    """Return an HTML image with its alternative text.

    A narrow page makes it a little smaller. A page that is narrower still scrolls it: the page's
    own style would shrink it, and its text, to any size.

    Args:
        encoded: The PNG in base64, or the address of an image.
        alt: What it shows.
        width: Its width on the page in pixels, where there is room.
        follows: Whether it is darker on light pages and brighter on dark ones.
    """
    source = encoded if ":" in encoded else f"data:image/png;base64,{encoded}"
    style = f"width:{width}px;max-width:100%;min-width:{round(LEAST_SCALE * width)}px"
    name = f' class="{_FOLLOWING}"' if follows else ""
    image = f'<img src="{source}" alt="{escape(alt, quote=True)}"{name} style="{style}"/>'
    return f'<div style="overflow-x:auto">{image}</div>{_style() if follows else ""}'


def _pixels(content: bytes) -> int:
    """Return the width of a PNG, which stands at the beginning of its first part."""
    return int.from_bytes(content[16:20], "big")


def shown_bundle(
    content: bytes, alt: str, width: int | None = None, *, follows: bool = True
) -> Bundle:
    """Return an output that shows a PNG.

    The alternative text stands twice. JupyterLab reads it from HTML alone, not from the metadata of
    an image; nbconvert reads both; pages that show no HTML have the image.

    Args:
        content: The PNG.
        alt: What it shows.
        width: Its width on the page in pixels, where there is room; its own if ``None``.
        follows: As in :func:`image_tag`.
    """
    encoded = base64.b64encode(content).decode("ascii")
    bundle = {
        "image/png": encoded,
        "text/html": image_tag(encoded, alt, width or _pixels(content), follows=follows),
        "text/plain": alt or "a picture",
    }
    return bundle, {"image/png": {"alt": alt} | ({} if width is None else {"width": width})}
