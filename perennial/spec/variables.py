"""Environment variables, extra arguments, preloads and file modes of a person's own. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from perennial.spec.units import Refusal, Worded, refuse, refuse_all

#: What `dask worker` is always started with: the keys of a group say it.
WORKER_FLAGS: Mapping[str, str] = {
    "--name": "the name of a member is <group>-<index>",
    "--host": "the platform's options say it",
    "--nworkers": "write `processes`",
    "--nthreads": "write `threads`",
    "--memory-limit": "write `memory`",
    "--local-directory": "the platform's options say it",
    "--worker-port": "write `ports`",
    "--nanny-port": "write `ports`",
    "--resources": "write `resources`",
    "--preload": "write `preload`",
    "--preload-nanny": "write `nanny_preload`",
    "--protocol": "write `protocol` or `security`",
    "--tls-ca-file": "the cluster's own certificates are used",
    "--tls-cert": "the cluster's own certificates are used",
    "--tls-key": "the cluster's own certificates are used",
    "--dashboard": "a worker's own pages are off: the scheduler's dashboard shows them",
    "--no-dashboard": "a worker's own pages are off",
    "--dashboard-address": "a worker's own pages are off",
    "--nanny": "the nanny drains its worker",
    "--no-nanny": "the nanny drains its worker",
    "--lifetime": "a worker that ends by itself is not drained",
    "--lifetime-stagger": "a worker that ends by itself is not drained",
    "--lifetime-restart": "a worker that ends by itself is not drained",
    "--no-lifetime-restart": "a worker that ends by itself is not drained",
    "--scheduler-file": "the cluster's own scheduler is used",
    "--worker-class": "write it under `dask`",
    "--pid-file": "the service manager knows the process",
}

_RESERVED = re.compile(r"DASK_.*|PERENNIAL_.*|NOTIFY_SOCKET|WATCHDOG_.*")
_SECRET = re.compile(r"SECRET|TOKEN|PASSW|PASSPHRASE|CREDENTIAL|PRIVATE|(^|_)(API|ACCESS)?_?KEY$")

_VALUE = Worded(
    "The value of a variable, or `{file: PATH}`.",
    "/opt/lab/modules",
    r"[^\u0000-\u001f\u007f]*",
    "text on one line, or `{file: PATH}`",
    "write text, numbers in quotes",
)


def _variable(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,127}", name, re.ASCII):
        raise refuse("a name of letters, digits and _, no digit first", "rename the variable")
    if _RESERVED.fullmatch(name):
        raise refuse(
            "names that neither Dask nor dask-perennial reads",
            "write Dask's settings under `dask`",
        )
    return name


def _arguments(arguments: list[str]) -> list[str]:
    refusals = []
    for index, word in enumerate(arguments):
        flag = word.partition("=")[0]
        if flag in WORKER_FLAGS:
            refusals.append(
                Refusal("flags that no key of the group stands for", WORKER_FLAGS[flag], (index,))
            )
        elif not word.isprintable() or not word:
            refusals.append(Refusal("words on one line", "correct the word", (index,)))
    if refusals:
        raise refuse_all(refusals)
    return arguments


def looks_secret(name: str) -> bool:
    """Whether a variable's name promises a secret."""
    return _SECRET.search(name.upper()) is not None


#: Variables by name. A value may be a file's first line: `perennial.spec.named_files` puts it here.
Variables = Annotated[
    dict[
        Annotated[
            str,
            AfterValidator(_variable),
            WithJsonSchema({"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,127}$"}),
        ],
        Annotated[
            str,
            _VALUE,
            WithJsonSchema(
                {
                    "type": ["string", "object"],
                    "pattern": r"^[^\u0000-\u001f\u007f]*$",
                    "propertyNames": {"const": "file"},
                    "minProperties": 1,
                    "additionalProperties": {"type": "string"},
                    "description": _VALUE.description,
                    "examples": [_VALUE.example],
                    "patternErrorMessage": f"Allowed: {_VALUE.allowed}.",
                }
            ),
        ],
    ],
    Field(max_length=200),
]

Arguments = Annotated[list[str], AfterValidator(_arguments), Field(max_length=100)]

Module = Annotated[
    str,
    Worded(
        "A Python module or the path of a file.",
        "mylab.setup",
        r"[A-Za-z_][\w]*(\.[A-Za-z_]\w*)*|/[^\u0000-\u001f\u007f]*\.py",
        "a module such as mylab.setup, or the absolute path of a .py file",
        "write a module",
    ),
]


#: Never of the owner's own rights, without which no service works.
UMASK_PATTERN = r"^0[0-7][0-7]$"

_UMASKS = "three octal digits in quotes, of which the first is 0"


def _umask(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(UMASK_PATTERN, value, re.ASCII):
        raise refuse(_UMASKS, 'write it in quotes, such as "027"')
    return value


#: The mask of the files that a process makes.
Umask = Annotated[
    str,
    BeforeValidator(_umask),
    WithJsonSchema(
        {
            "type": "string",
            "description": "A mask for the modes of files.",
            "examples": ["027"],
            "pattern": UMASK_PATTERN,
            "patternErrorMessage": f"Allowed: {_UMASKS}.",
        }
    ),
]
