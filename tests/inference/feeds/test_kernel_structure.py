"""Structures of kernels are kept as long as their code and the shapes of their data stay."""

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from aimz_lab.errors import DataError
from aimz_lab.inference.feeds import kernel_structure
from aimz_lab.inference.feeds.inputs import all_rows
from aimz_lab.inference.feeds.kernel_structure import trace_data
from aimz_lab.kernel.signature import KernelSignature

HIGH = 1.0


def kernel(X, y=None):
    with numpyro.plate("data", X.shape[0]):
        numpyro.sample("y", dist.Uniform(0.0, HIGH), obs=y)


@pytest.fixture
def traced(monkeypatch):
    """The numbers of rows with which kernels were traced."""
    sizes, trace_spec = [], kernel_structure.trace_spec

    def counted(kernel, **arguments):
        sizes.append(len(arguments["rows"]["X"]))
        return trace_spec(kernel, **arguments)

    monkeypatch.setattr(kernel_structure, "trace_spec", counted)
    return sizes


def structure(signature, n_rows, value=0.5):
    rows = np.zeros(n_rows, np.float32), np.full(n_rows, value, np.float32)
    return trace_data(signature, all_rows(signature, *rows, {}, allow_nonfinite=False))


def test_unchanged_code_is_traced_once_for_each_shape(traced):
    signature = KernelSignature(kernel)
    first = structure(signature, 5)
    assert structure(signature, 5) is first
    assert structure(signature, 6).n_rows == 6
    assert traced == [5, 6]


def test_changed_globals_are_traced_again(traced, monkeypatch):
    signature = KernelSignature(kernel)
    structure(signature, 5)
    monkeypatch.setitem(globals(), "HIGH", 3.0)
    structure(signature, 5, value=2.0)  # within the new support
    assert traced == [5, 5]


def test_data_is_checked_with_a_kept_structure():
    signature = KernelSignature(kernel)
    structure(signature, 5)
    with pytest.raises(DataError, match=r"'y' is 2.* from 0.0 to 1.0"):
        structure(signature, 5, value=2.0)
