"""Let a page that is reloaded find its widgets again while a cell runs."""

from __future__ import annotations

from typing import Any

_STATE_METHODS = ("request_state", "request_states")
_CONTROL_TARGET = "jupyter.widget.control"
_STATELESS = ("kernel_info_request", "comm_info_request")


def answer_reloaded_pages(kernel: Any) -> None:
    """Patch a kernel so that questions about its widgets are answered while a cell runs.

    Reason: a page that is loaded again asks what kernel this is, which widgets it has, and for
    their state. Its first questions name no subshell, so that ipykernel keeps them for the end of
    the running cell: the page says "Loading widget..." for as long as a fit takes, and the button
    that stops it is gone. Here a subshell of our own answers. It reads only; executions and
    messages to widgets go where they went.

    Seen in: ipykernel 7.4.0 with JupyterLab 4.6. Kernels without subshells are left alone.

    Gain: the live view and its buttons come back within seconds of a reload.
    ``test_comm_routing.py`` fails once ipykernel does so by itself: delete the patch then.
    """
    thread = getattr(kernel, "shell_channel_thread", None)
    needed = (
        getattr(kernel, "shell_channel_thread_main", None),
        getattr(kernel, "_main_asyncio_lock", None),
        getattr(getattr(thread, "_manager", None), "_create_subshell", None),
    )
    if None in needed or getattr(kernel, "_aimz_lab_answers", False):
        return
    kernel._aimz_lab_answers = True
    questions = _Questions(kernel)
    thread.io_loop.add_callback(kernel.shell_stream.on_recv, questions.take, copy=False)


class _Questions:
    """Takes the messages of a kernel's shell channel, on the thread of that channel."""

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel
        self._subshells = kernel.shell_channel_thread.manager
        self._own: str | None = None

    async def take(self, frames: list[Any]) -> None:
        """Hand a message to our subshell, if it can answer in place of a busy main shell."""
        if not (self._kernel._main_asyncio_lock.locked() and self._answer(frames)):
            await self._kernel.shell_channel_thread_main(frames)

    def _answer(self, frames: list[Any]) -> bool:
        session = self._kernel.session
        try:
            idents, parts = session.feed_identities(frames, copy=False)
            header = session.unpack(parts[1].bytes)
            content = session.unpack(parts[4].bytes)
            if header.get("subshell_id") is not None or not _is_question(header, content):
                return False
            message = session.deserialize(parts, content=True, copy=False)
            message["header"]["subshell_id"] = subshell = self._subshell()
            signed = session.serialize(message, idents)
            socket = self._subshells.get_shell_channel_to_subshell_socket(subshell)
            socket.send_multipart(signed + message["buffers"], copy=False)
        except Exception:  # an ipykernel of another make keeps its own way
            self._kernel.log.debug("aimz_lab hands this message on", exc_info=True)
            return False
        return True

    def _subshell(self) -> str:
        if self._own not in self._subshells.list_subshell():
            self._own = self._subshells._create_subshell()
        return self._own


def _is_question(header: dict[str, Any], content: dict[str, Any]) -> bool:
    """Whether a message asks about the kernel or the state of its widgets."""
    match header.get("msg_type"):
        case "comm_open":
            return content.get("target_name") == _CONTROL_TARGET
        case "comm_msg":
            return content.get("data", {}).get("method") in _STATE_METHODS
        case kind:
            return kind in _STATELESS
