"""What the declarations of all options share: the kind of table that they stand in, and the types of common values.

This file has declarations only; the options themselves are in the files of this
folder, one a table, and in ``options.py`` of each feature.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Self, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from gateway.settings import values

NonEmptyText = Annotated[str, Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Scope = Annotated[str, AfterValidator(values.scope)]
Text = str | int | float | bool


class Section(BaseModel):
    """A table of the configuration: unknown keys are refused, values never change.

    Attributes:
        note: Markdown about the whole table, for the reference.
        commented: the example file shows the table commented out: no gateway would use it as it stands there.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
    note: ClassVar[str] = ""
    commented: ClassVar[bool] = False


class FeatureOptions(Section):
    """Options that a feature adds to a table of the core, or tables that it adds to the whole configuration.

    Attributes:
        after: the option, or table, behind which they stand in the reference; empty: behind all others.
    """

    after: ClassVar[str] = ""

    @classmethod
    def of(cls, section: Section) -> Self:
        """Return a table of the composed configuration as one that has these options.

        Raises:
            TypeError: the configuration was composed without the feature.
        """
        if not isinstance(section, cls):
            raise TypeError(f"{type(section).__name__} was composed without the options of {cls.__module__}")
        return section


def single_tables(model: type[Section]) -> dict[str, type[Section]]:
    """Return the tables of a configuration that are there once, by name."""
    annotations = ((name, info.annotation) for name, info in model.model_fields.items())
    return {name: kind for name, kind in annotations if isinstance(kind, type) and issubclass(kind, Section)}


def listed_tables(model: type[Section]) -> dict[str, type[Section]]:
    """Return what the entries are of the tables of a configuration that are lists, by name."""
    annotations = ((name, info.annotation) for name, info in model.model_fields.items())
    return {name: get_args(kind)[0] for name, kind in annotations if get_origin(kind) is list}
