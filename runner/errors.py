"""The one error tree. Each surface renders it once: HTTP in `gateway`, the terminal in `cli`.

RunnerError                      status exit
├── BadInput                        400    2  an unusable value, flag or file
│   ├── BadReference                400    2  not a model reference
│   ├── BadModelFile                422    2  a file that is not readable as a model
│   ├── BadSettings                 400    2  the settings file, a RUNNER_* variable or a flag
│   ├── BadEngineFile               400    2  an engine.yaml, with all of its mistakes
│   ├── MissingModel                400    2  a request that names no model
│   ├── MethodNotAllowed            405    2
│   └── BodyTooLarge                413    2
├── NotFound                        404    3
│   ├── ModelNotFound               404    3
│   └── EngineNotFound              404    3  a name that is no engine at all
├── Conflict                        409    4
│   ├── AlreadyRunning              409    4  the state or the port is taken
│   ├── InUse                       409    4
│   └── SchemaTooNew                409    4  state written by a newer program
├── Unsupported                     412    5
│   ├── EngineNotInstalled          412    5
│   └── NoEngineFits                412    5  every candidate was refused; carries the verdicts
├── Forbidden                       403    6  Host or Origin not allowed
├── EngineFailed                    502    7  carries the engine's last log lines
│   └── EngineStartTimeout          504    7
├── Unavailable                     503    8
│   ├── DaemonNotRunning            503    8
│   ├── DockerUnavailable           503    8
│   ├── ShuttingDown                503    8
│   └── DiskFull                    507    8
├── RegistryError                   502    9
│   ├── RegistryUnauthorized        401    9
│   └── CorruptTransfer             502    9  digest or size differ from what was announced
├── BuildFailed                     500   10  an engine image did not build; carries the last lines
└── InternalError                   500    1  the runner's own fault; its log holds the traceback
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

LOG_TAIL = 20
"""So many of a failed program's last lines go with an error."""


class RunnerError(Exception):
    """Something a person can act on: what happened, and what to do next.

    `message` is one sentence; `hint` is the next step; `log` holds the last lines of the
    program that failed, oldest first.
    """

    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "failed"

    def __init__(self, message: str, *, hint: str = "", log: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.log = tuple(log)


class BadInput(RunnerError):
    status, exit_code, code = 400, 2, "bad_input"


class BadReference(BadInput):
    code = "bad_reference"


class BadModelFile(BadInput):
    status, code = 422, "bad_model_file"


class BadSettings(BadInput):
    code = "bad_settings"


class BadEngineFile(BadInput):
    code = "bad_engine_file"


class MissingModel(BadInput):
    code = "missing_model"


class MethodNotAllowed(BadInput):
    status, code = 405, "method_not_allowed"


class BodyTooLarge(BadInput):
    status, code = 413, "body_too_large"


class NotFound(RunnerError):
    status, exit_code, code = 404, 3, "not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"


class EngineNotFound(NotFound):
    code = "engine_not_found"


class Conflict(RunnerError):
    status, exit_code, code = 409, 4, "conflict"


class AlreadyRunning(Conflict):
    code = "already_running"


class InUse(Conflict):
    code = "in_use"


class SchemaTooNew(Conflict):
    code = "schema_too_new"


class Unsupported(RunnerError):
    status, exit_code, code = 412, 5, "unsupported"


class EngineNotInstalled(Unsupported):
    code = "engine_not_installed"


class NoEngineFits(Unsupported):
    code = "no_engine_fits"


class Forbidden(RunnerError):
    status, exit_code, code = 403, 6, "forbidden"


class EngineFailed(RunnerError):
    status, exit_code, code = 502, 7, "engine_failed"


class EngineStartTimeout(EngineFailed):
    status, code = 504, "engine_start_timeout"


class Unavailable(RunnerError):
    status, exit_code, code = 503, 8, "unavailable"


class DaemonNotRunning(Unavailable):
    code = "daemon_not_running"


class DockerUnavailable(Unavailable):
    code = "docker_unavailable"


class ShuttingDown(Unavailable):
    code = "shutting_down"


class DiskFull(Unavailable):
    status, code = 507, "disk_full"


class RegistryError(RunnerError):
    status, exit_code, code = 502, 9, "registry_error"


class RegistryUnauthorized(RegistryError):
    status, code = 401, "registry_unauthorized"


class CorruptTransfer(RegistryError):
    code = "corrupt_transfer"


class BuildFailed(RunnerError):
    status, exit_code, code = 500, 10, "build_failed"


class InternalError(RunnerError):
    code = "internal_error"

    def __init__(
        self,
        message: str = "something went wrong inside the runner",
        *,
        hint: str = "see `runner logs`",
        log: Sequence[str] = (),
    ) -> None:
        super().__init__(message, hint=hint, log=log)
