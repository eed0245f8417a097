"""HTML tables for rich representations, in the colours of the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def html_table(
    caption: str,
    header: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    n_labels: int | None = None,
) -> str:
    """Return a table as HTML with all text escaped, legible on light and dark pages.

    Args:
        caption: One line above the table; empty for none.
        header: The column names; without any, the first cell of a row names it.
        rows: The cells of each row; ``str`` gives their text.
        n_labels: How many columns are labels; the others are numbers, which end on the right.

    Example:
        >>> html_table("Fields", ["name"], [["a<b"]]).count("a&lt;b")
        1
    """
    # No background and no fixed colour, so the notebook's theme shows through.
    cell = "padding:2px 12px 2px 0;background:transparent;color:inherit;text-align:"
    sides = [
        cell + ("left" if n_labels is None or i < n_labels else "right") for i in range(len(header))
    ]
    line = "border-bottom:1px solid currentColor"
    head = "".join(
        f'<th scope="col" style="{side};{line}">{escape(h)}</th>'
        for side, h in zip(sides, header, strict=True)
    )
    body = "".join(
        f"<tr>{_cells(row, sides or [f'{cell}left'] * len(row), named=not header)}</tr>"
        for row in rows
    )
    above = (
        '<caption style="caption-side:top;text-align:left;white-space:nowrap;color:inherit;'
        f'padding-bottom:4px">{escape(caption)}</caption>'
    )
    return (
        '<table style="border-collapse:collapse;color:inherit">'
        f"{above if caption else ''}"
        f"{f'<thead><tr>{head}</tr></thead>' if header else ''}<tbody>{body}</tbody></table>"
    )


def html_paragraph(text: str) -> str:
    """Return a paragraph as HTML, which wraps at the width of the page.

    Args:
        text: The paragraph.

    Example:
        >>> html_paragraph("a<b").endswith(">a&lt;b</p>")
        True
    """
    return f'<p style="max-width:60em;margin:0 0 8px">{escape(text)}</p>'


def html_report(text: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a paragraph as HTML, with a table below it.

    Args:
        text: The paragraph.
        header: The column names.
        rows: The cells of each row.

    Example:
        >>> html_report("a<b", ["name"], [["c"]]).startswith("<div><p")
        True
    """
    return f"<div>{html_paragraph(text)}{html_table('', header, rows)}</div>"


def _cells(row: Sequence[object], styles: Sequence[str], *, named: bool) -> str:
    """Return the cells of a row; of a ``named`` one the first is its heading."""
    cells = [
        f'<td style="{style}">{escape(str(cell))}</td>'
        for style, cell in zip(styles, row, strict=True)
    ]
    if named:
        style = f"{styles[0]};font-weight:600"
        cells[0] = f'<th scope="row" style="{style}">{escape(str(row[0]))}</th>'
    return "".join(cells)


def format_bytes(n_bytes: int) -> str:
    """Return a size in the largest unit that makes it at least 1.

    Example:
        >>> format_bytes(640), format_bytes(16_000_000)
        ('640 B', '15.3 MiB')
    """
    size, units = float(n_bytes), ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:.0f} B" if units[0] == "B" else f"{size:.1f} {units[0]}"
