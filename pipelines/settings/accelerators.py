"""What a pipeline trains on: a table of accelerators, each as the parameters that choose it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import pydantic
from pydantic import ConfigDict, Field, StrictInt, StrictStr

from pipelines import UserError

SECOND = "second_"
"""How the parameters of a second training begin, which runs beside the first to be compared with it."""


class Accelerator(pydantic.BaseModel):
    """Where a training runs, and with what.

    Attributes:
        machine_type: Compute Engine machine.
        accelerator_type: such as `NVIDIA_TESLA_T4`; empty for none.
        accelerator_count: per machine; 0 for none.
        tpu_topology: of a machine with TPUs, such as `2x2`; empty for others.
        image_suffix: what the tags of its images end in.
        keras_backend: `tensorflow` or `jax`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    machine_type: Annotated[StrictStr, Field(min_length=1)]
    accelerator_type: StrictStr
    accelerator_count: Annotated[StrictInt, Field(ge=0)]
    tpu_topology: StrictStr
    image_suffix: StrictStr
    keras_backend: Annotated[StrictStr, Field(pattern="^(tensorflow|jax)$")]


Table = pydantic.RootModel[dict[str, Accelerator]]


def chosen(names: str, table: Mapping[str, Accelerator], interface: Iterable[str]) -> dict[str, Any]:
    """The parameters that choose one accelerator, or two to train on side by side.

    Args:
        names: of one, or of two with a comma between; empty: none is chosen.
        table: all there are.
        interface: the parameters that the pipeline takes.

    Raises:
        UserError: there is no such accelerator, both are the same, or the pipeline does not take them.
    """
    asked = [name.strip() for name in names.split(",")] if names else []
    for name in asked:
        if name not in table:
            raise UserError(f"ACCELERATOR={names}: no {name or 'empty name'}; there are {', '.join(table)}")
    if len(asked) != len(set(asked)) or len(asked) > 2:
        raise UserError(f"ACCELERATOR={names}: give one, or two different ones to train on side by side")
    values = {
        f"{prefix}{name}": value
        for prefix, accelerator in zip(("", SECOND), asked, strict=False)
        for name, value in table[accelerator].model_dump().items()
    }
    known = set(interface)
    for name in values:
        if name not in known:
            how = "is not trained on two accelerators" if name.startswith(SECOND) else f"takes no {name}"
            raise UserError(f"ACCELERATOR={names}: this pipeline {how}")
    return values
