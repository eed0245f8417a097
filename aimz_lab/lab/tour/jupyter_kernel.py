"""A Jupyter kernel of the running Python, whichever kernels are installed."""

from __future__ import annotations

import zmq
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from traitlets import default


class _OnlyThisPython(KernelSpecManager):
    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:  # noqa: ARG002
        return KernelSpec(**get_kernel_dict())


class ThisPython(AsyncKernelManager):
    """Manages a kernel of this Python; the kernel named ``python3`` may run another."""

    @default("kernel_spec_manager")
    def _this_python(self) -> KernelSpecManager:
        return _OnlyThisPython(parent=self)

    # Newer versions can encrypt their messages, and newer kernels warn if they do not.
    @default("transport_encryption")
    def _encrypt_if_possible(self) -> str:
        return "auto" if zmq.has("curve") else "disabled"
