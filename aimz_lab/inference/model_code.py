"""What kernel, guide and optimizer say, to compare a model with one in a file."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from numpyro.infer import MCMC, SVI

from aimz_lab.errors import FitWarning
from aimz_lab.files import Value
from aimz_lab.inference.inference_options import guide_options, optimizer_name, optimizer_options
from aimz_lab.kernel.code_facts import code_differences, code_facts, unread_functions
from aimz_lab.kernel.signature import KernelSignature
from aimz_lab.tracebacks import warn
from aimz_lab.types import JsonObject


@dataclass(frozen=True)
class ModelCode:
    """What the parts of a model say, as plain values.

    Attributes:
        kernel: Facts of the kernel; see :func:`~aimz_lab.kernel.code_facts.code_facts`.
        guide: Facts of the guide, with the options of an autoguide.
        optimizer: Facts of the optimizer and the loss.
        optimizer_name: The optimizer's name and the library that it has it from; ``None`` for
            chains.
    """

    kernel: JsonObject
    guide: JsonObject
    optimizer: JsonObject
    optimizer_name: tuple[str, str] | None

    @classmethod
    def of(cls, signature: KernelSignature, inference: SVI | MCMC) -> ModelCode:
        """Read the code of a model."""
        guide = getattr(inference, "guide", None)
        return cls(
            code_facts(signature.kernel),
            code_facts(guide, guide_options(guide)),
            code_facts(None, optimizer_options(inference)),
            optimizer_name(inference),
        )

    def as_plain(self) -> JsonObject:
        """Return it as plain values."""
        return asdict(self)

    @classmethod
    def of_plain(cls, plain: Value) -> ModelCode:
        """Return what :meth:`as_plain` described.

        Raises:
            Malformed: If it is none.
        """
        parts = plain.fields("kernel", "guide", "optimizer", "optimizer_name")
        name = parts.pop("optimizer_name").optional(_name_and_library)
        return cls(**{what: _facts(part) for what, part in parts.items()}, optimizer_name=name)

    def differences(self, here: ModelCode) -> list[str]:
        """Return the differences of kernel and guide: draws mean another thing with others.

        Args:
            here: The code at hand; this one is of a file.
        """
        return [
            *code_differences(self.kernel, here.kernel, "kernel"),
            *code_differences(self.guide, here.guide, "guide"),
        ]

    def other_optimizer(self, here: ModelCode) -> list[str]:
        """Return the difference of the optimizers, if there is one: no state fits both.

        Args:
            here: The code at hand; this one is of a file.
        """
        names = self.optimizer_name, here.optimizer_name
        if None in names or names[0] == names[1]:
            return []
        (there, of_there), (own, of_own) = names
        if there == own or ("optax" in of_there and "optax" in of_own and of_there != of_own):
            # Another release may have other names; the structure of the state is compared too.
            return []
        return [f"the optimizer is {there} ({of_there}) there and {own} ({of_own}) here"]

    def warn_if_unread(self, reader: str) -> None:
        """Tell of functions whose source cannot be kept.

        Args:
            reader: What will not compare them, for the message.

        Warns:
            FitWarning: If there are some.
        """
        found = [
            *unread_functions(self.kernel, what="kernel"),
            *unread_functions(self.guide, what="guide"),
        ]
        if found:
            msg = (
                f"The source of {'; of '.join(found[:6])} is not at hand, so {reader} will not "
                "notice a change of it. If its file was edited after the import, undo the edit and "
                "save again, or import it anew and train. Otherwise write it in a file or a "
                "notebook, at most one lambda in a line."
            )
            warn(msg, FitWarning)

    def warn_if_not_compared(self, here: ModelCode, path: object) -> None:
        """Tell of functions that could not be compared.

        Args:
            here: The code at hand; this one is of a file.
            path: The file.

        Warns:
            FitWarning: If there are some.
        """
        found = [
            *unread_functions(self.kernel, here.kernel, what="kernel"),
            *unread_functions(self.guide, here.guide, what="guide"),
        ]
        if found:
            msg = (
                f"The source of {'; of '.join(found[:6])} was not compared with that of {path}, as "
                "it is not at hand: make sure that it is the code that was trained."
            )
            warn(msg, FitWarning)

    def warn_of_settings(self, here: ModelCode) -> None:
        """Tell of settings of the training that are others than in a file.

        Args:
            here: The code at hand; this one is of a file.

        Warns:
            FitWarning: If there are some.
        """
        found = code_differences(self.optimizer, here.optimizer, "training")
        if found:
            msg = (
                f"Training goes on with other settings than before: {'; '.join(found[:6])}. Build "
                "optimizer and loss as they were if that is not meant."
            )
            warn(msg, FitWarning)


def _facts(plain: Value) -> JsonObject:
    return {
        kind: {name: part.value for name, part in facts.named().items()}
        for kind, facts in plain.fields("functions", "constants").items()
    }


def _name_and_library(plain: Value) -> tuple[str, str]:
    name, library = plain.listed(2)
    return name.text(), library.text()
