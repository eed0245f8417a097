"""Draw from a guide, by programs that are compiled once."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import jax
from numpyro.infer import SVI
from numpyro.infer.autoguide import AutoGuide
from numpyro.infer.svi import SVIState

from aimz_lab.data import canonical
from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.inference.posterior import GuideSampler
from aimz_lab.inference.svi.guide_setup import GuideSetup
from aimz_lab.kernel.arguments import split_arguments
from aimz_lab.kernel.cache_keys import CodeKey
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.types import Arguments, Params, Shared, Static


class GuideDraws:
    """Draws from the guide of an SVI object.

    Args:
        svi: The inference object.
        setup: The set-up of its guide.
        params_of: The compiled function from a state to constrained parameters.
    """

    def __init__(self, svi: SVI, setup: GuideSetup, params_of: Callable) -> None:
        self._svi = svi
        self._setup = setup
        self._params_of = params_of
        self._samplers: dict[Hashable, GuideSampler] = {}

    def draw(
        self,
        key: jax.Array,
        params: Params,
        num_samples: int,
        arguments: Arguments,
        spec: KernelSpec | None,
    ) -> dict[str, jax.Array]:
        """Draw from the guide.

        Args:
            key: A typed random key.
            params: Constrained parameters.
            num_samples: Number of draws.
            arguments: Arguments of the guide; empty for the last batch that it was trained on.
            spec: The kernel's structure, whose latent sites are returned; ``None`` for all sites.

        Raises:
            CallError: If the guide may read data, and a loaded model has seen none yet.
        """
        sampler, arrays, static = self._sampler(arguments, spec)
        self._setup.ready_to_draw(key, arrays, static)
        return sampler.draw(key, params, num_samples, arrays)

    def compile_ahead(
        self,
        data: TrainingData,
        key: jax.Array,
        state: SVIState,
        num_samples: int,
        spec: KernelSpec,
    ) -> None:
        """Compile what :meth:`draw_for` takes after a fit, on a thread while its steps compile."""
        params = jax.eval_shape(self._params_of, state)
        sampler, arrays, _ = self._sampler(self._arguments_of(data), spec)
        sampler.compile_ahead(jax.tree.leaves(state)[0], key, params, num_samples, arrays)

    def draw_for(
        self,
        data: TrainingData,
        key: jax.Array,
        params: Params,
        num_samples: int,
        spec: KernelSpec,
    ) -> dict[str, jax.Array]:
        """Draw from the guide after a fit; a guide that reads the data gets all rows, in order."""
        return self.draw(key, params, num_samples, self._arguments_of(data), spec)

    def _sampler(
        self, arguments: Arguments, spec: KernelSpec | None
    ) -> tuple[GuideSampler, Shared, Static]:
        """Return the sampler, and the guide's array and static arguments."""
        split = split_arguments(arguments or self._setup.arguments(), None)
        latents = spec.latent_sites if spec else None
        guide = self._svi.guide
        # An autoguide is what it was when it was set up; a function reads what it reads now.
        code = None if isinstance(guide, AutoGuide) else CodeKey(guide)
        sampler_key = (split.static_key, latents, code)
        if sampler_key not in self._samplers:
            self._samplers[sampler_key] = GuideSampler(self._svi, latents, split.static)
        arrays = jax.tree.map(canonical, dict(split.shared))
        return self._samplers[sampler_key], arrays, dict(split.static)

    def _arguments_of(self, data: TrainingData) -> Arguments:
        rows = data.rows
        if isinstance(self._svi.guide, AutoGuide):
            # It runs the kernel for its structure only: a batch suffices.
            rows = data.first_batch.rows
        return {**rows, **data.shared, **data.static}
