"""`aws`: what an account of AWS must allow."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perennial.errors import PerennialError
from perennial.registry import PLATFORMS

if TYPE_CHECKING:
    from perennial.aws.rights import Statement
    from perennial.spec import ClusterSpec

#: Extra of the platforms that the command is for.
EXTRA = "aws"


class Subject(StrEnum):
    """What can be printed."""

    POLICY = "policy"


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(aws)


def aws(
    _subject: Annotated[
        Subject,
        typer.Argument(
            metavar="policy", help="The policy of the user or role that deploys a cluster."
        ),
    ],
    file: Annotated[Path, typer.Option("--file", "-f", help="The cluster file.")] = Path(
        "cluster.yaml"
    ),
    account: Annotated[
        str,
        typer.Option(metavar="NUMBER", help="Number of the account; any when it is not given."),
    ] = "*",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Output folder, for policies of a size that IAM takes."
        ),
    ] = None,
) -> None:
    """Print the IAM policy with which a cluster is deployed."""
    from perennial.aws.policy.packing import LIMIT, divided, merged, size
    from perennial.aws.rights import document
    from perennial.files import write_atomic
    from perennial.spec import load

    if account != "*" and not (len(account) == 12 and account.isdigit()):
        raise PerennialError(f"--account {account}: not the number of an account; write 12 digits")
    spec = load(file)
    rights = merged(_rights(spec, account))
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        for number, text in enumerate(divided(rights), start=1):
            path = output / f"{spec.name}-{number}.json"
            write_atomic(path, _indented(text))
            print(path)
        return
    text = document(rights)
    print(_indented(text), end="")
    if size(text) > LIMIT:
        print(
            f"{spec.name}: {size(text)} characters, and IAM takes {LIMIT} in a managed policy;"
            " --output FOLDER writes several",
            file=sys.stderr,
        )


def _indented(policy: str) -> str:
    return json.dumps(json.loads(policy), indent=2) + "\n"


def _rights(spec: ClusterSpec, account: str) -> Iterable[Statement]:
    """List the rights: the module `policy` beside the options of a platform knows them."""
    platform = PLATFORMS[spec.platform]
    if platform.extra != EXTRA:
        own = ", ".join(name for name, each in PLATFORMS.items() if each.extra == EXTRA)
        raise PerennialError(
            f"{spec.name}: on the platform {spec.platform}, not on AWS; this is for {own}"
        )
    package = platform.options.rsplit(".", 2)[0]
    rights: Iterable[Statement] = import_module(f"{package}.policy").deployer(spec, account)
    return rights
