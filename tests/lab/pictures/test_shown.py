"""Pictures with words for those who cannot see them, legible on light pages and dark ones."""

from __future__ import annotations

import base64
import io
import re
from itertools import product

import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from aimz_lab import lab
from aimz_lab.errors import ArgumentError, DataTypeError
from aimz_lab.lab.explorers.charts import View
from aimz_lab.lab.explorers.drawing import draw_view
from aimz_lab.lab.explorers.graph_picture import FILLS, LETTERS
from aimz_lab.lab.explorers.graph_svg import COLOURS
from aimz_lab.lab.pictures import ink, shown
from aimz_lab.lab.pictures.encoding import BRIGHTER, DARKER
from aimz_lab.lab.pictures.figure_layout import figure_of_axes
from tests.lab.runs import begun, feed

PAPERS = ("#ffffff", "#111111")


def luminance(color):
    linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in to_rgb(color)]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def contrast(one, other):
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("color", "paper"), list(product([*ink.LINES, ink.OTHER], PAPERS)))
def test_lines_are_seen_on_light_pages_and_on_dark_ones(color, paper):
    assert contrast(color, paper) > 3.4


@pytest.mark.parametrize("paper", PAPERS)
def test_text_is_read_on_light_pages_and_on_dark_ones(paper):
    assert contrast(ink.TEXT, paper) > 4.1


@pytest.mark.parametrize(("light", "paper"), [("true", PAPERS[0]), ("false", PAPERS[1])])
def test_text_has_full_contrast_where_the_page_says_its_theme(light, paper):
    html = shown_as(of_a_run())[0]
    rule = rf'\[data-jp-theme-light="{light}"\] \.([\w-]+) {{ filter: brightness\(([\d.]+)\); }}'
    name, brightness = re.search(rule, html).groups()
    assert f'class="{name}"' in html
    assert contrast(float(brightness) * np.array(to_rgb(ink.TEXT)), paper) > 5.5


def test_a_graph_follows_the_page_and_the_colours_of_a_user_do_not():
    of_a_graph = draw_view(View(draw=lambda axes: None, sentences=["A graph."]))
    assert "brightness" in shown_as(of_a_graph)[0]
    assert not hasattr(of_a_user(), "follows")


@pytest.mark.parametrize("kind", FILLS)
def test_a_node_of_a_model_is_read_on_any_page(kind):
    for brightness in (DARKER, 1.0, BRIGHTER):
        both = (np.minimum(brightness * np.array(to_rgb(c)), 1) for c in (LETTERS, FILLS[kind]))
        assert contrast(*both) > 4.9
    assert min(contrast(COLOURS[kind], paper) for paper in PAPERS) > 3.4  # its outline


def finished():
    run = begun(n_obs=10)
    feed(run, np.linspace(40, 20, 200))
    run.finish("completed", "")
    return run


def of_a_run():
    return lab.loss_figure(finished())


def of_a_user():
    figure = Figure()
    axes = FigureCanvasAgg(figure).figure.add_subplot()
    axes.plot([1, 2], [2, 1], color="black", label="black")
    axes.plot([1, 2], [1, 2], color="#123456", label="chosen")
    axes.bar([1], [1], edgecolor="black")
    axes.set_title("black")
    axes.legend()
    figure.legend()
    return figure


def test_a_picture_shows_its_words_where_jupyterlab_and_nbconvert_read_them():
    bundle, metadata = DisplayFormatter().format(of_a_run())
    alt = (
        "Loss of kernel over 200 steps, completed. Loss 2.121 per row, 21.21 for all 10 rows. The "
        "vertical axis shows loss per row (nats)."
    )
    assert metadata["image/png"]["alt"] == alt
    assert f'alt="{alt}"' in bundle["text/html"]
    assert bundle["text/plain"] == alt
    assert f"base64,{bundle['image/png']}" in bundle["text/html"]


@pytest.mark.parametrize("make", [of_a_run, of_a_user])
def test_paper_is_transparent_and_no_ink_is_black(make):
    figure = make()
    lab.show_figure(figure, "words")  # without a notebook, it only gets ready
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba()).reshape(-1, 4)
    assert (pixels[:, 3] == 0).mean() > 0.5
    seen = np.unique(pixels[pixels[:, 3] == 255][:, :3], axis=0)
    assert len(seen) >= 2
    assert seen.max(axis=1).min() > 0x50  # of the user's own colour, 123456, the brightest part


def test_the_png_keeps_the_paper_transparent():
    bundle, _ = DisplayFormatter().format(of_a_run())
    image = Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))).convert("RGBA")
    assert image.getpixel((1, 1))[3] == 0


def shown_as(figure):
    """The HTML of a figure, and its widths on a wide page and on a narrow one."""
    html = DisplayFormatter().format(figure)[0]["text/html"]
    widths = re.search(r"width:(\d+)px;max-width:100%;min-width:(\d+)px", html).groups()
    return html, *map(int, widths)


def test_a_narrow_page_scrolls_a_picture_before_its_text_is_too_small_to_read():
    html, wide, least = shown_as(figure_of_axes(5, 3, dpi=100))
    assert html.startswith('<div style="overflow-x:auto"><img ')
    assert (wide, least) == (500, 350)
    figure = of_a_run()
    html, wide, least = shown_as(figure)
    assert f"width:{wide}px" in lab.summary_html(finished(), picture="data:,")
    sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text()]
    assert min(sizes) / 72 / figure.get_figwidth() * least >= 8.5


def test_colours_that_a_user_chose_stay():
    figure = of_a_user()
    lab.show_figure(figure, "words")
    colors = [line.get_color() for line in figure.axes[0].lines]
    assert colors == [ink.TEXT, "#123456"]
    assert figure.legends[0].get_frame().get_alpha() == 0
    assert figure.axes[0].title.get_color() == ink.TEXT


def test_a_picture_in_the_midst_of_a_cell_is_shown_as_at_its_end(monkeypatch):
    seen = []
    monkeypatch.setattr(shown, "kernel", lambda: object())
    monkeypatch.setattr("IPython.display.display", lambda *args, **options: seen.append(args[0]))
    lab.show_figure(of_a_run())
    assert seen == [DisplayFormatter().format(of_a_run())[0]]


def test_what_is_no_figure_or_no_words_is_refused():
    with pytest.raises(ArgumentError, match="The figure has no words of its own"):
        lab.show_figure(of_a_user())
    with pytest.raises(DataTypeError, match="a figure of matplotlib; got list"):
        lab.show_figure([], "words")
    with pytest.raises(ArgumentError, match="alt=3"):
        lab.show_figure(of_a_user(), 3)
