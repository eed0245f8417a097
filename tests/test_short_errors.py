"""What a user sees of an error: the own lines and the sentence, and the keyword that was meant."""

from __future__ import annotations

import inspect
import sys
import traceback
import warnings
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ArrayDataset, ArrayLoader, Callback, ImpactModel, RunHandle, TableSpec, lab
from aimz_lab.calls import public
from aimz_lab.errors import (
    AimzLabError,
    ArtifactWriteError,
    CallError,
    DataError,
    KernelError,
    OutputWarning,
)
from tests import public_api

X = np.linspace(-1, 1, 60, dtype=np.float32).reshape(20, 3)
Y = X.sum(1)
QUIET = {"progress": False}


def linear(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(X[:, 2] * slope, 1.0), obs=y)


def misfit(X, y=None):
    level = X + jnp.zeros(5)
    numpyro.sample("y", dist.Normal(level, 1.0), obs=y)


def model(kernel=linear):
    svi = SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.1), Trace_ELBO())
    return ImpactModel(kernel, jax.random.key(0), svi)


@pytest.fixture(scope="module")
def im():
    return model().fit(X, Y, epochs=2, **QUIET)


class Failing(Callback):
    def on_epoch_end(self, run, epoch):
        self.helper()

    def helper(self):
        raise LookupError("mine")


class OfOtherArguments(Callback):
    def on_epoch_end(self, run): ...


def lines(error):
    """The functions in a traceback, as the user reads them, without the test's own."""
    frames = traceback.extract_tb(error.__traceback__)
    assert {frame.filename for frame in frames} == {__file__}
    return [frame.name for frame in frames][1:]


def fit_failing(im):
    im.fit(X, Y, callbacks=[Failing()], **QUIET)


def fit_in_background(im):
    im.fit(X, Y, callbacks=[Failing()], blocking=False, **QUIET).result()


CALLS = {
    "column": lambda im: im.fit(pd.DataFrame(X).assign(b="x"), Y, **QUIET),
    "keyword": lambda im: im.predict(X, batchsize=3),
    "no such argument": lambda im: im.sample(num_sample=3),
    "width": lambda im: im.predict(X[:, :2], **QUIET),
    "effect": lambda im: im.estimate_effect(args_baseline={"X": X}, args_intervention={"X": X[:3]}),
    "loader": lambda im: ArrayLoader(ArrayDataset(X=X, y=Y), jax.random.key(0), batch_size=0),
    "dataset": lambda im: ArrayDataset(X=X, y=Y[:3]),
    "property": lambda im: setattr(im, "n_obs", -1),
    "lab": lambda im: lab.EarlyStopping(patience=-1),
    "class method": lambda im: ImpactModel.load("nowhere", kernel=linear, inference=im.inference),
}


WRITES = {
    "checkpoint": lambda im, path: im.fit(X, Y, callbacks=[lab.ModelCheckpoint(path)], **QUIET),
    "log": lambda im, path: im.fit(X, Y, callbacks=[lab.CSVLogger(path)], **QUIET),
    "model": lambda im, path: im.save(path),
    "result": lambda im, path: im.predict(X, store="persistent", output_dir=path, progress=False),
}


@pytest.mark.slow
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_what_cannot_be_written_is_told_in_one_sentence_with_what_to_do(im, tmp_path, write):
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactWriteError, match="A file is where a folder has to be") as caught:
        write(im, tmp_path / "file" / "further" / "name")
    assert lines(caught.value) == ["<lambda>"]
    told = "".join(traceback.format_exception(caught.value))
    assert told.count("Traceback") == 1
    assert "Free some" not in told


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_of_our_errors_the_caller_s_line_is_left(im, call):
    with pytest.raises(AimzLabError) as caught:
        call(im)
    assert lines(caught.value) == ["<lambda>"]
    assert not "".join(traceback.format_exception(caught.value)).count("aimz_lab/")


@pytest.mark.parametrize("fit", [fit_failing, fit_in_background])
def test_of_the_user_s_errors_the_user_s_lines_are_left(fit):
    with pytest.raises(LookupError) as caught:
        fit(model())
    assert lines(caught.value) == [fit.__name__, "on_epoch_end", "helper"]


def test_of_a_kernel_s_error_the_call_and_the_line_are_left():
    with pytest.raises(KernelError, match="broadcast") as caught:
        model(misfit).fit(X, Y, **QUIET)
    assert lines(caught.value) == []
    assert [f.name for f in traceback.extract_tb(caught.value.__cause__.__traceback__)] == [
        "misfit"
    ]
    text = "".join(traceback.format_exception(caught.value))
    assert text.count("File ") == 2
    assert "JAX has removed" not in text


def test_the_error_that_was_being_handled_is_still_shown(im):
    try:
        raise LookupError("mine")
    except LookupError:
        with pytest.raises(DataError) as caught:
            im.fit(X, Y[:3], **QUIET)
    assert "LookupError: mine" in "".join(traceback.format_exception(caught.value))


def test_an_interrupt_without_words_names_the_call_that_the_user_wrote():
    @public
    def inner():
        raise KeyboardInterrupt

    @public
    def outer():
        inner()

    with pytest.raises(KeyboardInterrupt, match=r"^outer was interrupted\.$"):
        outer()


def test_a_variable_keeps_the_whole_traceback(im, monkeypatch):
    monkeypatch.setenv("AIMZ_LAB_FULL_TRACEBACKS", "1")
    with pytest.raises(DataError) as caught:
        im.fit(X, Y[:3], **QUIET)
    assert len(traceback.extract_tb(caught.value.__traceback__)) > 4


def test_a_notebook_shows_no_more_where_the_error_comes_through_other_libraries(monkeypatch):
    ultratb = pytest.importorskip("IPython.core.ultratb")
    formatter = ultratb.VerboseTB(theme_name="nocolor", tb_offset=0)
    shell = SimpleNamespace(InteractiveTB=formatter)
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: shell)

    def read():
        ones = pd.Series([1])
        ones.map(refuse)

    def refuse(_):
        raise DataError("Gone.")

    with pytest.raises(DataError) as caught:
        read()
    text = "\n".join(caught.value._render_traceback_())
    assert "Gone." in text
    assert "site-packages" not in text
    assert text.count("test_short_errors.py") == 3


def test_warnings_name_the_caller_s_line(im):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        im.predict(1000 * X, store="memory", **QUIET)
    [far] = [one for one in caught if one.category is OutputWarning]
    assert far.filename == __file__


def test_a_callback_that_takes_other_arguments_is_refused_by_a_sentence():
    with pytest.raises(CallError, match=r"on_epoch_end\(self, run, epoch\)"):
        model().fit(X, Y, callbacks=[OfOtherArguments()], **QUIET)


def misspelt():
    """Every public callable with a keyword, and that keyword without its last letter."""
    for item in public_api.public():
        function = item.function.__init__ if inspect.isclass(item.function) else item.function
        if item.owner in (RunHandle, Callback) or not hasattr(function, "__wrapped__"):
            continue
        if inspect.isgeneratorfunction(function.__wrapped__):  # of contextlib
            continue
        known = [p for p in public_api.parameters(item.function) if len(p.name) > 4]
        named = [p.name for p in known if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
        takes_any = any(p.kind is p.VAR_KEYWORD for p in public_api.parameters(item.function))
        if named and not takes_any:
            yield pytest.param(function, named[-1], id=item.label)


@pytest.mark.parametrize(("function", "name"), list(misspelt()))
def test_the_keyword_that_was_meant_is_named(function, name):
    is_method = next(iter(inspect.signature(function).parameters), "") in ("self", "cls")
    with pytest.raises(CallError, match=f"{name[:-1]!r}.*Did you mean '{name}'"):
        function(*[None] * is_method, **{name[:-1]: 1})


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda im: im.fit(X, Y, 10),
            r"ImpactModel.fit takes only X, y without a name; .* name",
        ),
        (lambda im: im.describe(1), r"ImpactModel.describe takes no arguments\.$"),
        (lambda im: lab.plot_effect(im, 1), r"plot_effect takes only effect .* such as by=\.$"),
        (lambda im: lab.LiveDashboard("line"), r"takes its arguments by name: .*\(view=\.\.\.\)"),
        (
            lambda im: TableSpec("scale(age)", "pay"),
            r"TableSpec takes its arguments by name: TableSpec\(X=\.\.\., y=\.\.\.\)\.$",
        ),
    ],
)
def test_an_argument_that_needs_a_name_is_asked_for_it(im, call, said):
    with pytest.raises(CallError, match=said):
        call(im)


@pytest.mark.parametrize(
    "method",
    ["fit", "fit_on_batch", "train_on_batch", "predict", "predict_on_batch", "log_likelihood"],
)
@pytest.mark.parametrize(
    ("given", "meant"), [("kernelkwargs", "kernel_kwargs"), ("allow_non_finite", "allow_nonfinite")]
)
def test_methods_with_arguments_of_the_kernel_name_it_too(im, method, given, meant):
    rows = (X,) if "predict" in method else (X, Y)
    with pytest.raises(CallError, match=f"Did you mean '{meant}'"):
        getattr(im, method)(*rows, **{given: {}})


@pytest.mark.parametrize("given", ["batchsize", "batchSize", "batch", "batch_sizes"])
def test_other_spellings_are_understood(im, given):
    with pytest.raises(CallError, match="Did you mean 'batch_size'"):
        im.fit(X, Y, **{given: 3})


def test_a_table_s_column_is_named_beside_its_position(im):
    table = pd.DataFrame(X, columns=["age", "pay", "size"])
    table.loc[4, "pay"] = np.nan
    for call in (im.fit, lambda X, y: im.fit(ArrayDataset(X=X, y=y)), im.log_likelihood):
        with pytest.raises(DataError, match=r"row 4, column 'pay' \(position 1\): nan"):
            call(table, Y)
