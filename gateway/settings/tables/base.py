"""What the declarations of all options share: the kind of table that they stand in, and the types of common values.

Only declarations live here; the options themselves are in ``schema.py``
and in the files that it names.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from gateway.settings import values

NonEmptyText = Annotated[str, Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Scope = Annotated[str, AfterValidator(values.scope)]
Text = str | int | float | bool


class Section(BaseModel):
    """A table of the configuration: unknown keys are refused, values never change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
