"""Files of models, checkpoints and histories, changed at random.

A changed file has to be refused by an error of the package. Or it is loaded as what it says: saved
again, it is the same file. :data:`GOOD` outcomes are these two.
"""

from __future__ import annotations

import copy
import json
import random
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from aimz_lab import Callback, ImpactModel
from aimz_lab.errors import AimzLabError
from aimz_lab.files import sealed_text
from aimz_lab.inference.artifact import read_artifact, write_artifact
from aimz_lab.inference.checkpoint.archive import read_archive, write_archive
from aimz_lab.inference.checkpoint.checkpoint import save_checkpoint
from aimz_lab.lab.callbacks import GradientNorm, History, ModelCheckpoint
from tests.kernels import regression, regression_data
from tests.runs import mean_field, refit, regression_model, same_bits

GOOD = ("refused", "identical", "as written")
X, Y = regression_data(n=40)
HELD_OUT = regression_data(n=40, seed=1)

Content = tuple[dict, dict[str, np.ndarray]]


def nested(depth):
    """A list in a list in a list."""
    value = []
    for _ in range(depth):
        value = [value]
    return value


STRANGE = (
    *(None, True, False, 0, 1, -1, 2, 7, 10**9, 2**31, 2**63, -(2**40), 0.5, -1.5, 1e300),
    *("", "x", "nan", "inf", "3", "float32", "\u00e9", "a/b", "x" * 5000),
    *([], [1], [[]], ["x"], {}, {"a": 1}, {"shape": [], "dtype": "float32"}, [0] * 500, nested(40)),
)


def somewhere(content: dict, dice: random.Random) -> tuple[dict | list, str | int]:
    """A value of JSON content: what holds it, and its name there; small ones are not lost."""
    holder: dict | list = content
    while True:
        name = dice.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        inner = holder[name]
        if not isinstance(inner, dict | list) or not inner or dice.random() < 0.3:
            return holder, name
        holder = inner


def change_json(content: dict, dice: random.Random) -> dict:
    """Change one value of JSON content: its structure, its type or its size."""
    content = copy.deepcopy(content)
    holder, name = somewhere(content, dice)
    value = holder[name]
    kinds = ["replace", "replace", "delete", "alike"]
    kinds += ["rename", "add"] if isinstance(holder, dict) else ["double", "swap"]
    match dice.choice(kinds):
        case "replace":
            holder[name] = dice.choice(STRANGE)
        case "delete":
            del holder[name]
        case "rename":
            holder[dice.choice(["x", f"{name}s", name.upper()])] = holder.pop(name)
        case "add":
            holder["another"] = value
        case "double":
            holder.insert(name, copy.deepcopy(value))
        case "swap":
            other = dice.randrange(len(holder))
            holder[name], holder[other] = holder[other], holder[name]
        case "alike":
            holder[name] = alike(value, dice)
    return content


def alike(value, dice):
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return dice.choice([value + 1, value - 1, -value, value * 3, float(value), str(value)])
    if isinstance(value, str):
        return dice.choice([value[1:], value + "x", value[::-1], [value]])
    if isinstance(value, dict):
        return dice.choice([list(value), dict(reversed(value.items())), {}, None])
    if isinstance(value, list):
        return dice.choice([value[::-1], value[:-1], value * 2, {"0": value}, nested(3)])
    return dice.choice(STRANGE)


def change_arrays(arrays: dict[str, np.ndarray], dice: random.Random) -> dict[str, np.ndarray]:
    """Change one array: its shape, its type, its name, its values; or leave it out."""
    arrays = dict(arrays)
    name, other = dice.choice(list(arrays)), dice.choice(list(arrays))
    array = arrays[name]
    changes: list[Callable] = [
        lambda: array.reshape(-1),
        lambda: array[None],
        lambda: array[..., None],
        lambda: array.astype(dice.choice(["f2", "f4", "f8", "i4", "i8", "u1", "c8", "?"])),
        lambda: array.astype(array.dtype.newbyteorder()),
        lambda: array[:-1] if array.ndim else array,
        lambda: np.concatenate([array, array]) if array.ndim else np.stack([array, array]),
        lambda: array.T,
        lambda: array[::-1] if array.ndim else array + array.dtype.type(1),
        lambda: np.full_like(array, dice.choice([0, 1, 127])),
        lambda: -array if array.dtype.kind in "if" else array,
        lambda: np.zeros((0, *array.shape), array.dtype),
        lambda: arrays[other],
    ]
    match dice.choice(["change"] * 6 + ["drop", "rename", "add", "swap"]):
        case "change":
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                arrays[name] = dice.choice(changes)()
        case "drop":
            del arrays[name]
        case "rename":
            arrays[dice.choice(["x", name + "0", name[::-1]])] = arrays.pop(name)
        case "add":
            arrays[f"{name}0"] = array
        case "swap":
            arrays[name], arrays[other] = arrays[other], array
    return arrays


def flip(path: Path, dice: random.Random) -> None:
    """Change one bit of a file, or one byte."""
    data = bytearray(path.read_bytes())
    at = dice.randrange(len(data))
    data[at] ^= dice.choice([1 << dice.randrange(8), dice.randrange(1, 256)])
    path.write_bytes(bytes(data))


def same(one, other) -> bool:
    """Whether two contents are equal, arrays to the last bit."""
    if isinstance(one, dict):
        return (
            isinstance(other, dict)
            and one.keys() == other.keys()
            and all(same(one[name], other[name]) for name in one)
        )
    if isinstance(one, list | tuple):
        return (
            isinstance(other, list | tuple)
            and len(one) == len(other)
            and all(map(same, one, other))
        )
    if isinstance(one, np.ndarray):
        native = other.astype(other.dtype.newbyteorder("="))
        return one.dtype == native.dtype and one.shape == native.shape and same_bits(one, native)
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        with np.errstate(over="ignore"):  # a changed one may be any number
            return np.float32(one) == np.float32(other)  # a history keeps some in single precision
    return type(one) is type(other) and one == other


class Subject:
    """Something that is saved, changed and loaded.

    Args:
        folder: Where its files go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.good = folder / "good"
        self.path = folder / "changed"
        self.again = folder / "again"

    def content(self, path: Path) -> Content:
        """Read plain values and arrays of a file that is whole."""
        raise NotImplementedError

    def write(self, path: Path, content: Content) -> None:
        """Write changed content, with checksums that fit."""
        raise NotImplementedError

    def reload(self, path: Path) -> None:
        """Load a file through the package, and save what was loaded as :attr:`again`."""
        raise NotImplementedError

    def told(self, content: Content) -> Content:
        """Leave out what follows from the rest, or is of no effect."""
        return content

    def files(self, path: Path) -> list[Path]:
        """The files at a path."""
        return sorted(path.iterdir()) if path.is_dir() else [path]

    def tamper(self, dice: random.Random) -> None:
        """Change the content, and write it with checksums that fit."""
        plain, arrays = self.content(self.good)
        for _ in range(dice.choice([1, 1, 1, 2, 3])):
            if arrays and dice.random() < 0.4:
                arrays = change_arrays(arrays, dice)
            else:
                plain = change_json(plain, dice)
            if not plain or not arrays:
                break
        self.write(self.path, (plain, arrays))

    def damage(self, dice: random.Random) -> None:
        """Change bits of a file as they come, which no checksum follows."""
        if self.path.is_dir():
            shutil.rmtree(self.path)
        copy_of = shutil.copytree if self.good.is_dir() else shutil.copyfile
        copy_of(self.good, self.path)
        flip(dice.choice(self.files(self.path)), dice)

    def outcome(self) -> tuple[str, str]:
        """Load the changed file; return one of :data:`GOOD` or another word, and a message."""
        try:
            self.reload(self.path)
        except AimzLabError as error:
            if self.path.name not in str(error) and self.folder.name not in str(error):
                return "unnamed", f"{type(error).__name__}: {error}"
            return "refused", str(error)
        except Exception as error:  # noqa: BLE001  a raw error is what is looked for
            return "raw", f"{type(error).__name__}: {error}"
        found = self.told(self.content(self.again))
        if same(found, self.told(self.content(self.good))):
            return "identical", ""
        try:
            written = self.told(self.content(self.path))
        except AimzLabError as error:
            return "other", str(error)
        return ("as written", "") if same(found, written) else ("other", "")


class SavedModel(Subject):
    """A saved model; with the state of its training, or with draws alone."""

    def __init__(self, folder: Path, *, trained: bool = True) -> None:
        super().__init__(folder)
        im = self.new()
        im.fit(X, Y, epochs=1, batch_size=20, num_samples=6, progress=False)
        if not trained:
            im._vi_state = None
        im.set_posterior_sample(im.posterior, num_chains=2)
        im.save(self.good)

    def new(self):
        return ImpactModel(regression, jax.random.key(3), svi=mean_field(regression))

    def content(self, path):
        plain, arrays = read_artifact(path)
        return {name: v for name, v in plain.items() if name != "arrays"}, arrays

    def write(self, path, content):
        write_artifact(path, *content)

    def reload(self, path):
        svi = mean_field(regression)
        before = dict(vars(svi.guide))
        try:
            ImpactModel.load(path, regression, svi=svi).save(self.again)
        except AimzLabError:
            assert vars(svi.guide) == before
            raise

    def told(self, content):
        plain, arrays = copy.deepcopy(content[0]), dict(content[1])
        del plain["versions"]
        del plain["code"]  # of the kernel that is loaded with
        (plain["posterior"] or {}).pop("of_training", None)
        (plain["params"] or {}).pop("of_state", None)
        if plain["params"]:  # in whatever order they are named
            paths = plain["params"]["paths"]
            order = sorted(range(len(paths)), key=lambda i: str(paths[i]))
            plain["params"]["paths"] = [paths[i] for i in order]
            arrays |= {f"params/{new}": arrays[f"params/{old}"] for new, old in enumerate(order)}
        return plain, arrays


class _SaveAtEnd(Callback):
    kind = "checkpoint"
    every_epoch = False

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_fit_end(self, run) -> None:
        save_checkpoint(self.path, run)


class Checkpoint(Subject):
    """A checkpoint of a run that is at its end."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.im = regression_model()
        self._fit(self.good)

    def _fit(self, path, **options):
        best = ModelCheckpoint(self.folder / "other", best="loss", every_s=1e9, window=2)
        callbacks = [GradientNorm(), best, _SaveAtEnd(path)]
        options = {"validation": HELD_OUT, "epochs": 2, "callbacks": callbacks, **options}
        refit(self.im, X, Y, **options)

    def content(self, path):
        return read_archive(path)

    def write(self, path, content):
        write_archive(path, *content)

    def reload(self, path):
        before = self.im.rng_key, self.im.posterior, self.im.vi_result, self.im.last_run
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of other versions
                self._fit(self.again, resume=path)
        except AimzLabError:
            after = self.im.rng_key, self.im.posterior, self.im.vi_result, self.im.last_run
            assert same_bits(before[:2], after[:2])
            assert before[2:] == after[2:]
            raise

    def told(self, content):
        plain = copy.deepcopy(content[0])
        del plain["versions"]
        return plain, content[1]


class SavedHistory(Subject):
    """A history as JSON."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        history = History()
        options = {"validation": HELD_OUT, "callbacks": [history, GradientNorm()]}
        refit(regression_model(), X, Y, **options)
        history.run.notes = ["a note"]
        history.run.checkpoints = [(2, "somewhere")]
        history.to_json(self.good)

    def content(self, path):
        plain = json.loads(path.read_text())
        del plain["sha256"]
        return plain, {}

    def write(self, path, content):
        path.write_bytes(sealed_text(content[0]))

    def tamper(self, dice):
        plain, _ = self.content(self.good)
        for _ in range(dice.choice([1, 1, 1, 2])):
            plain = change_json(plain, dice) if plain else plain
        self.write(self.path, (plain, {}))

    def reload(self, path):
        History.from_json(path).to_json(self.again)


SUBJECTS = {
    "model": SavedModel,
    "draws": lambda folder: SavedModel(folder, trained=False),
    "checkpoint": Checkpoint,
    "history": SavedHistory,
}
