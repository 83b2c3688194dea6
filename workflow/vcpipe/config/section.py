"""What every section of the configuration is: frozen, complete, and closed to unknown keys."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

# Names become folders and file names.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Section(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        protected_namespaces=(),
    )
