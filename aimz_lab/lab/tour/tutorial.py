"""Execute the first tutorial in a fresh kernel, and write it as HTML that needs no network."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from aimz_lab.errors import AimzLabError, ArgumentError, OptionalDependencyError
from aimz_lab.system.imports import late_import
from aimz_lab.system.interrupts import hold_interrupts
from aimz_lab.system.paths import naming, write_whole

if TYPE_CHECKING:
    from nbformat import NotebookNode

NAME = "01_first_model.ipynb"
_SECONDS_PER_CELL = 300

# The page as in JupyterLab, without the scripts that it would fetch for formulas and diagrams.
# A picture has the alternative text of its metadata.
_TEMPLATE = """{% extends 'lab/index.html.j2' %}
{% block html_head_js %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
{% block data_png scoped %}
<div class="jp-RenderedImage jp-OutputArea-output {{ extra_class }}">
<img alt="{{ (output | get_metadata('alt', 'image/png') or '') | escape_html }}"
src="data:image/png;base64,{{ output.data['image/png'] | escape_html }}">
</div>
{% endblock data_png %}
"""


def notebook_path(room: Path | None = None) -> Path:
    """Find the tutorial: in the installed package, or in the checkout that the package runs from.

    Args:
        room: Folder of ``aimz_lab.lab.tour``; that of this file by default.

    Raises:
        AimzLabError: If it is in neither.
    """
    room = room or Path(__file__).resolve().parent
    places = (room / "notebooks" / NAME, room.parents[2] / "notebooks" / NAME)
    for path in places:
        if path.is_file():
            return path
    msg = f"The tutorial {NAME} is missing; looked for it at {' and '.join(map(str, places))}."
    raise AimzLabError(msg)


def live_command(notebook: Path) -> str:
    """Return the command that opens a notebook in JupyterLab from the current folder.

    Args:
        notebook: The notebook.
    """
    jupyter = shutil.which("jupyter", path=str(Path(sys.executable).parent))
    command = [_short(Path(jupyter)), "lab"] if jupyter else [sys.executable, "-m", "jupyterlab"]
    return shlex.join([*command, _short(notebook)])


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def check_target(out: Path) -> None:
    """Check that a file can be written, before the work that fills it.

    Args:
        out: The file; replaced if it exists.

    Raises:
        ArgumentError: If it is a folder, or its folder does not exist or cannot be written to.
    """
    folder = out.resolve().parent
    if out.is_dir():
        msg = f"{out} is a folder; name a file, such as {out / 'first_model.html'}."
    elif not folder.is_dir():
        msg = f"The folder {folder} does not exist; make it, or name another file."
    elif not os.access(out if out.exists() else folder, os.W_OK):
        msg = f"{out} cannot be written; name a file in a folder of yours."
    else:
        return
    raise ArgumentError(msg)


def write_html(notebook: Path, out: Path, on_cell: Callable[[int, int], None]) -> None:
    """Execute a notebook with this Python and write it with its outputs as HTML.

    Args:
        notebook: The notebook; it is not changed.
        out: The HTML file, replaced if it exists.
        on_cell: Called before each code cell with its number, from 1, and the number of code cells.

    Raises:
        ArgumentError: If the file cannot be written.
        ArtifactWriteError: If there is no room for it; an earlier one stays.
        AimzLabError: If a cell fails or the kernel dies; nothing is written then.
        KeyboardInterrupt: After Ctrl-C; nothing is written, and the kernel is gone.
        OptionalDependencyError: If the packages of notebooks are missing.
    """
    check_target(out)
    executed = _execute(notebook, on_cell)
    with naming(out, "page"):
        write_whole(out, _html(executed, notebook.stem).encode())


def _execute(path: Path, on_cell: Callable[[int, int], None]) -> NotebookNode:
    try:
        with hold_interrupts():
            import nbformat
            from nbclient import NotebookClient
            from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

            from aimz_lab.lab.tour.jupyter_kernel import ThisPython
    except ImportError as error:
        msg = "Tutorials need the packages of notebooks: pip install 'aimz_lab[lab]'"
        raise OptionalDependencyError(msg) from error
    notebook = nbformat.read(path, as_version=4)
    code = [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    interrupted = asyncio.Event()

    def begin(**_: object) -> None:
        # Replaces nbclient's own handler of Ctrl-C, which ends the kernel and then fails itself.
        def interrupt() -> None:
            interrupted.set()
            running.append(asyncio.ensure_future(client.km.interrupt_kernel()))

        running: list[asyncio.Future] = []
        with suppress(NotImplementedError):  # where loops handle no signals, it has none
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupt)

    def report(cell_index: int, **_: object) -> None:
        if interrupted.is_set():  # a cell, such as one that trains, may end well all the same
            raise AimzLabError("interrupted")
        on_cell(code.index(cell_index) + 1, len(code))

    client = NotebookClient(
        notebook,
        kernel_manager_class=ThisPython,
        timeout=_SECONDS_PER_CELL,
        resources={"metadata": {"path": str(path.parent)}},
        on_notebook_start=begin,
        on_cell_execute=report,
    )
    try:
        return asyncio.run(client.async_execute(env=_environment()))
    except (AimzLabError, CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        if interrupted.is_set():
            raise KeyboardInterrupt from error
        if isinstance(error, CellExecutionError):
            msg = f"A cell of {path} failed with {error.ename}: {error.evalue}"
        else:
            msg = f"The kernel stopped before the end of {path}."
        raise AimzLabError(msg) from error


def _environment() -> dict[str, str]:
    """The kernel's environment: pictures go into the notebook, and the debugger prints nothing."""
    return {
        **os.environ,
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


def _html(notebook: NotebookNode, title: str) -> str:
    exporter = late_import("nbconvert").HTMLExporter(raw_template=_TEMPLATE)
    text, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": title}})
    return text
