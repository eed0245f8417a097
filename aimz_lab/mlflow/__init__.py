"""MLflow flavor: save, log, load and serve models, and autolog their fits.

A logged model holds two things. Its state is arrays and plain text, see
:meth:`aimz_lab.ImpactModel.save`. Its code, the kernel and the inference object, is pickled, as in
MLflow's own flavors; an autoguide contains the batch of its set-up. Unpickling runs code, so it
needs your consent: pass kernel and inference object yourself, or ``allow_pickle=True``. Nothing
that stands in the model itself counts as consent, nor does a ``model_config`` of MLflow.

Example:
    Log a model, and predict with it through MLflow's generic interface::

        info = aimz_lab.mlflow.log_model(im, name="model", input_example=frame[:5])
        served = aimz_lab.mlflow.load_pyfunc(info.model_uri, allow_pickle=True)
        served.predict(frame)
        served.predict(frame, params={"output": "draws", "num_draws": 100})

    Serve it, with consent in the environment of the server::

        AIMZ_LAB_ALLOW_PICKLE=1 mlflow models serve -m models:/model/1 --env-manager local
"""

from __future__ import annotations

import warnings

from aimz_lab.errors import OptionalDependencyError

try:
    with warnings.catch_warnings():
        # MLflow warns about its own type hints.
        warnings.simplefilter("ignore")
        import mlflow.pyfunc  # noqa: F401  as early as here, for its warnings
except ImportError as error:
    _msg = "aimz_lab.mlflow needs MLflow: pip install 'aimz_lab[mlflow]'."
    raise OptionalDependencyError(_msg) from error

from aimz_lab.mlflow.autologging import autolog
from aimz_lab.mlflow.flavor import FLAVOR_NAME
from aimz_lab.mlflow.loading import _load_pyfunc as _load_pyfunc  # MLflow calls it
from aimz_lab.mlflow.loading import load_model, load_pyfunc
from aimz_lab.mlflow.requirements import get_default_conda_env, get_default_pip_requirements
from aimz_lab.mlflow.saving import log_model, save_model

__all__ = [
    "FLAVOR_NAME",
    "autolog",
    "get_default_conda_env",
    "get_default_pip_requirements",
    "load_model",
    "load_pyfunc",
    "log_model",
    "save_model",
]
