"""What to do where the system refused a file and nobody has said it yet."""

from __future__ import annotations

import errno
from contextlib import suppress
from pathlib import Path

from runner.errors import RunnerError, Unavailable

_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_ELSE = {
    errno.EISDIR: "name a file in it",
    errno.ENOTDIR: "check the path: a part of it is a file, not a folder",
    **dict.fromkeys(_FULL, "free some space there"),
}


def unusable(error: OSError) -> RunnerError:
    """A file or the output that can't be used, wherever it was met."""
    if not error.filename:
        return Unavailable(
            f"can't write the output: {error.strerror}",
            hint="free some space where it goes, or send it elsewhere",
        )
    told = Unavailable(f"can't use {error.filename}: {error.strerror}")
    told.__cause__ = error
    return with_next_step(told)


def with_next_step(error: RunnerError) -> RunnerError:
    """The error itself, with a hint where it has none and comes from the system's refusal."""
    cause = error.__cause__
    if not error.hint and isinstance(cause, OSError):
        error.hint = _hint(cause)
    return error


def _hint(error: OSError) -> str:
    """Empty for what is no file's refusal, such as a network's."""
    if not error.filename:
        return ""
    path = Path(str(error.filename)).absolute()
    if error.errno == errno.ENOENT:
        return _absent(path)
    ours = _setting_of(path)
    if ours:
        free = ", or free some space" if error.errno in _FULL else ""
        return f"set {ours} to a folder that you may use{free}"
    if error.errno in _REFUSED:
        return f"`ls -ld {path}` shows who may use it"
    return _ELSE.get(error.errno or 0, "")


def _absent(path: Path) -> str:
    if path.parent.is_dir():
        return f"check the path: {path.parent} has no {path.name}"
    return f"check the path, or make the folder {path.parent}"


def _setting_of(path: Path) -> str:
    """Which setting moves the path; empty for somebody's own file."""
    from runner.cli.background import this_home
    from runner.cli.models import this_store

    home = this_home()
    with suppress(RunnerError):  # settings that can't be read have moved nothing
        store = this_store().root
        if store != home.store and (path.is_relative_to(store) or store.is_relative_to(path)):
            return "models_path"
    is_home = path.is_relative_to(home.root) or home.root.is_relative_to(path)
    return "RUNNER_HOME" if is_home else ""
