"""Panels on a page follow the training of their model, without a touch."""

from __future__ import annotations

import pytest

pytest.importorskip("ipykernel", reason="needs the lab extra: pip install 'aimz_lab[lab]'")

from tests.lab.dashboard.test_protocol import Page

PANEL = """
import jax, numpy as np, pandas as pd
from aimz_lab import ImpactModel, lab
from tests.kernels import regression
from tests.runs import mean_field
y = np.linspace(-1, 1, 20, dtype=np.float32)
X = pd.DataFrame({{"dose": y, "square": y**2}})
im = ImpactModel(regression, jax.random.key(0), svi=mean_field(regression))
im.fit(X, y, epochs=2, num_samples=20, progress=False)
panel = lab.{explorer}
panel
"""
AGAIN = "im.fit(X, y, epochs=2, num_samples=20, progress=False)"


@pytest.fixture(scope="module")
def page():
    page = Page(None)
    yield page
    page.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("explorer", "said"),
    [
        ("explore_effect(im, X)", "of its present posterior"),
        ("explore_predictions(im, X, y)", "of an earlier posterior"),
        ("explore_model(im, X)", "of an earlier state"),
    ],
)
def test_a_panel_says_that_its_model_was_trained_as_the_cell_ends(page, explorer, said):
    page.run(PANEL.format(explorer=explorer))
    page.wait_for(lambda m: m["msg_type"] == "display_data")
    page.run(AGAIN)
    page.wait_for(lambda m: m["msg_type"] == "comm_msg" and said in sentences_of(m))


def sentences_of(message):
    view = message["content"]["data"].get("state", {}).get("view") or {}
    return " ".join(view.get("sentences", []))
