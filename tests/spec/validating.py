"""The JSON Schema of the cluster file, as another implementation reads it."""

from __future__ import annotations

import functools
from typing import Any

from perennial.spec import schema


def fresh() -> Any:
    """A validator of the schema as it is now; to import its library takes a second."""
    import jsonschema

    return jsonschema.Draft202012Validator(schema())


#: The validator for as long as no test changes the registry of platforms.
validator = functools.cache(fresh)
