"""Take the README's pictures of the real dashboard, in a real JupyterLab in headless Chromium.

Run it by hand from the checkout, when the dashboard has changed::

    python -m tests.browser.screenshots [FOLDER]

The folder is ``notebooks/images`` unless told.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests.browser.jupyter import Notebook, Server, chromium_browser, jupyterlab

SETUP = """
import jax
jax.config.update("jax_num_cpu_devices", {devices})
import numpyro
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO, init_to_mean
from numpyro.infer.autoguide import AutoMultivariateNormal
import numpy as np
from aimz_lab import ImpactModel
from aimz_lab.lab.tour import experiment

def earnings(X, y=None):
    experiment.earnings(X[:, 1:], X[:, 0], y)

def make_model(rate):
    guide = AutoMultivariateNormal(earnings, init_loc_fn=init_to_mean)
    svi = SVI(earnings, guide, numpyro.optim.Adam(rate), Trace_ELBO())
    return ImpactModel(earnings, rng_key=jax.random.key(1978), svi=svi)

people = experiment.load_experiment()
X = np.column_stack([people.treat, people.X])
X_val, y_val = X[::4], people.y[::4]
X, y = np.delete(X, slice(None, None, 4), axis=0), np.delete(people.y, slice(None, None, 4))
"""
BEFORE = """
for rate in (0.005, 0.0002):
    make_model(rate).fit(X, y, batch_size=111, epochs=3_000)
"""
LIVE = """im = make_model(rate=0.0005)
im.fit(X, y, batch_size={batch_size}, epochs={epochs:_},
       validation=(X_val, y_val), validation_every={every});"""
CHAINS = """im = ImpactModel(earnings, rng_key=jax.random.key(1978), inference=MCMC(
    NUTS(earnings), num_warmup=500, num_samples=10_000, num_chains=4, chain_method="vectorized"))
im.fit_on_batch(X, y);"""
SHOP = """
import jax, numpy as np, numpyro, numpyro.distributions as dist, pandas as pd
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoMultivariateNormal
from aimz_lab import ImpactModel, TableSpec, lab

rng, n = np.random.default_rng(1), 2_000
shop = pd.DataFrame({"price": rng.uniform(2, 6, n), "degrees": rng.normal(15, 8, n)})
shop["store"] = rng.choice(["north", "south"], n)
rate = np.exp(3 - 0.3 * shop.price + 0.02 * shop.degrees + 0.4 * (shop.store == "south"))
shop["visits"] = rng.poisson(rate)

def visits(X, y=None):
    level = numpyro.sample("level", dist.Normal(2, 1))
    slopes = numpyro.sample("slopes", dist.Normal(0, 1).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("day", X.shape[0]):
        numpyro.sample("y", dist.Poisson(jax.numpy.exp(level + X @ slopes)), obs=y)

svi = SVI(visits, AutoMultivariateNormal(visits), numpyro.optim.Adam(0.01), Trace_ELBO())
table = TableSpec(X="scale(price) + scale(degrees) + C(store)", y="visits")
im = ImpactModel(visits, jax.random.key(0), svi=svi, table=table)
im.fit(shop, batch_size=500, epochs=400, progress=False)
"""
EXPLORED = {
    "explore-prior": (
        "explorer = lab.explore_prior(im, shop)\n"
        "explorer.set(**{'level.scale': 0.5, 'slopes.scale': 0.3})\nexplorer"
    ),
    "explore-effect": (
        "explorer = lab.explore_effect(im, shop)\nexplorer.set(price=3.0, curve='price')\nexplorer"
    ),
}
_COLORS = 160


def shoot(folder: Path, chromium: str) -> None:
    """Write every picture into ``folder``."""
    home = Path(tempfile.mkdtemp())
    root = home / "notebooks"
    root.mkdir()
    with jupyterlab(home, root) as server, chromium_browser(chromium, scale=2) as browser:
        for theme in ("light", "dark"):
            server.use_theme(theme)
            _dashboard(server, browser, theme, folder)
            _explorers(server, browser, theme, folder)
        server.use_theme("light")
        _chains(server, browser, folder)
        _folded_out(server, browser, folder)


def _open(server: Server, browser, name: str, *, devices: int, live: str) -> Notebook:
    cells = [SETUP.format(devices=devices), BEFORE, live]
    notebook = Notebook(server, browser, name, cells, width=1180, height=3000)
    notebook.__enter__()
    notebook.page.keyboard.press("Control+b")  # the side bar
    notebook.run_all()
    notebook.wait_until_done(1, 180)
    notebook.cell(2).locator("section.aimz").wait_for(timeout=60_000)
    return notebook


def _dashboard(server: Server, browser, theme: str, folder: Path) -> None:
    live = LIVE.format(batch_size=111, epochs=60_000, every=20)
    notebook = _open(server, browser, f"running-{theme}", devices=1, live=live)
    _wait_for_share(notebook, 0.25)
    _save(notebook.cell(2).screenshot(), folder / f"dashboard-{theme}.png")
    notebook.wait_until_done(2, 180)
    notebook.cell(2).locator("section.aimz").wait_for(
        state="detached"
    )  # the still picture is there
    notebook.page.wait_for_timeout(500)
    if theme == "light":
        _save(notebook.cell(2).screenshot(), folder / "finished.png")
    notebook.__exit__()


def _chains(server: Server, browser, folder: Path) -> None:
    notebook = _open(server, browser, "chains", devices=1, live=CHAINS)
    _wait_for_share(notebook, 0.5)
    _save(notebook.cell(2).screenshot(), folder / "chains.png")
    notebook.dashboard().get_by_role("button", name="Stop", exact=True).click()
    notebook.wait_until_done(2, 120)
    notebook.__exit__()


def _folded_out(server: Server, browser, folder: Path) -> None:
    live = LIVE.format(batch_size=10, epochs=100_000, every=1_000)
    notebook = _open(server, browser, "folded-out", devices=8, live=live)
    dashboard = notebook.dashboard()
    dashboard.get_by_text("moves most").wait_for(timeout=120_000)  # the last panel is there
    for summary in dashboard.locator("details:not([open]):visible > summary").all()[::-1]:
        summary.click()
    dashboard.get_by_text("Moved over the last 0 steps").wait_for(state="hidden", timeout=120_000)
    notebook.page.wait_for_timeout(15_000)  # for some history
    _save(dashboard.locator(".aimz-folds").screenshot(), folder / "panels.png")
    dashboard.get_by_role("button", name="Stop", exact=True).click()
    notebook.wait_until_done(2, 60)
    notebook.__exit__()


def _explorers(server: Server, browser, theme: str, folder: Path) -> None:
    """Write the picture of one explorer in each theme."""
    name = "explore-prior" if theme == "light" else "explore-effect"
    cells = [SHOP, EXPLORED[name]]
    with Notebook(server, browser, name, cells, width=1180, height=2400) as notebook:
        notebook.page.keyboard.press("Control+b")
        notebook.run_all()
        notebook.wait_until_done(1, 180)
        notebook.page.locator("section.aimz-explorer-picture").first.wait_for()
        notebook.page.wait_for_timeout(5_000)  # until the curve is there
        _save(notebook.cell(1).screenshot(), folder / f"{name}.png")


def _wait_for_share(notebook: Notebook, share: float) -> None:
    bar = notebook.cell(2).locator(".aimz-bar")
    while int(bar.get_attribute("aria-valuenow")) < 100 * share:
        notebook.page.wait_for_timeout(20)


def _save(png: bytes, path: Path) -> None:
    """Write a picture with few colours: half the bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.open(io.BytesIO(png)).convert("RGB").quantize(_COLORS).save(path, optimize=True)
    sys.stdout.write(f"{path}: {path.stat().st_size / 1024:.0f} KiB\n")


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "notebooks/images")
    shoot(target, shutil.which("chromium") or shutil.which("google-chrome"))
