"""What the ``shell`` server's tools take, give and do."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from corral.mcp_servers.answer_shapes import COUNT, FLAG, TEXT, record
from corral.mcp_servers.tool import Answer, Call, Effects, JsonObject, Tool

MAX_TIMEOUT = 600
MAX_PAGE = 65_536

_RUNS = Effects(read_only=False, destructive=True)
_LOOKS = Effects(read_only=True, idempotent=True)
EFFECTS: Mapping[str, Effects] = {
    "run_command": _RUNS,
    "start_job": _RUNS,
    "job_output": _LOOKS,
    "list_jobs": _LOOKS,
    "stop_job": _RUNS._replace(idempotent=True),
}
"""What each tool does to its surroundings."""

_COMMAND: JsonObject = {
    "type": ["string", "array"],
    "items": TEXT,
    "minLength": 1,
    "minItems": 1,
    "description": "A script for bash, or a list: a program and its arguments.",
}
_CWD: JsonObject = {
    "type": "string",
    "default": ".",
    "description": "The folder to run in, from the workspace on.",
}
_ENV: JsonObject = {
    "type": "object",
    "additionalProperties": TEXT,
    "description": "Variables that are added to the environment.",
}
_JOB: JsonObject = {"type": "string", "minLength": 1, "description": "Its name: job-1."}
_STATE: JsonObject = {
    "enum": ["running", "exited", "failed", "timeout", "cancelled", "stopped"],
}
_CODE: JsonObject = {"type": ["integer", "null"]}


Runs = Mapping[str, Callable[[Call], Answer]]
"""What carries the tools out, by name."""


def declarations(runs: Runs) -> list[Tool]:
    """The tools as clients see them."""
    return [*_starting(runs), *_looking(runs)]


def _starting(runs: Runs) -> list[Tool]:
    return [
        Tool(
            name="run_command",
            title="Run a command",
            description=(
                "Run a command in the workspace to its end and return its exit code and output "
                "(of long output the beginning and the end). Everything that it starts is ended "
                "with it. There is no network and no input."
            ),
            properties={
                "command": _COMMAND,
                "cwd": _CWD,
                "timeout": {
                    "type": "number",
                    "minimum": 0.1,
                    "maximum": MAX_TIMEOUT,
                    "default": 60,
                    "description": "Seconds after which it is stopped.",
                },
                "env": _ENV,
            },
            required=("command",),
            effects=EFFECTS["run_command"],
            run=runs["run_command"],
            output=record(
                state=_STATE,
                exit_code=_CODE,
                stdout=TEXT,
                stderr=TEXT,
                dropped_bytes=COUNT,
                seconds={"type": "number"},
                files={"type": "array", "items": TEXT},
            ),
        ),
        Tool(
            name="start_job",
            title="Start a background job",
            description="Start a command that goes on in the background, until it ends by itself, "
            "is stopped, or the server ends.",
            properties={"command": _COMMAND, "cwd": _CWD, "env": _ENV},
            required=("command",),
            effects=EFFECTS["start_job"],
            run=runs["start_job"],
            output=record(job=TEXT),
        ),
        Tool(
            name="stop_job",
            title="Stop a job",
            description="End a job and everything that it started.",
            properties={"job": _JOB},
            required=("job",),
            effects=EFFECTS["stop_job"],
            run=runs["stop_job"],
            output=record(job=TEXT, state=_STATE),
        ),
    ]


def _looking(runs: Runs) -> list[Tool]:
    return [
        Tool(
            name="job_output",
            title="Read a job's output",
            description="What a job has written (its last megabyte), and whether it still runs.",
            properties={
                "job": _JOB,
                "offset": {
                    "type": "integer",
                    "minimum": 0,
                    "default": 0,
                    "description": "The byte to begin at; the answer says where to go on.",
                },
                "limit": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 32_768},
            },
            required=("job",),
            effects=EFFECTS["job_output"],
            run=runs["job_output"],
            output=record(
                job=TEXT,
                state=_STATE,
                exit_code=_CODE,
                output=TEXT,
                offset=COUNT,
                next_offset=COUNT,
                more=FLAG,
            ),
        ),
        Tool(
            name="list_jobs",
            title="List the jobs",
            description="The jobs that run, and the latest that have ended.",
            properties={},
            required=(),
            effects=EFFECTS["list_jobs"],
            run=runs["list_jobs"],
            output=record(jobs={"type": "array", "items": {"type": "object"}}),
        ),
    ]
