"""Flags by which the compiler tries less: tests compile a hundred times longer than they compute.

``XLA_FLAGS= pytest ...`` compiles as a user's session does.
"""

from __future__ import annotations

import importlib.util
import mmap
from pathlib import Path

# Together they compile in a seventh of the time. The first belongs to older compilers, of JAX 0.10;
# the last two leave rarely useful passes out, and cut no program into pieces for other threads.
_FLAGS = {
    "xla_cpu_use_fusion_emitters": "false",
    "xla_backend_optimization_level": "0",
    "xla_llvm_disable_expensive_passes": "true",
    "xla_cpu_opt_preset": "CPU_OPT_PRESET_FAST_COMPILE",
    "xla_cpu_parallel_codegen_split_count": "1",
}


def quick_flags() -> str:
    """Those that this jaxlib knows, as in ``XLA_FLAGS``: another one would end the process."""
    library = Path(importlib.util.find_spec("jaxlib").origin).with_name("libjax_common.so")
    if not library.exists():  # not Linux
        return ""
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        known = [name for name in _FLAGS if text.find(b"\0%s\0" % name.encode()) >= 0]
    return " ".join(f"--{name}={_FLAGS[name]}" for name in known)
