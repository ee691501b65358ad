"""Weights to begin with, from another network: of each layer that has the same name and shapes there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from images.executor import UserError

if TYPE_CHECKING:
    import keras

BUCKETS = "gs://"


def located(uri: str, examples: str, examples_uri: str) -> Path:
    """Where a file in a bucket is on this machine, whose buckets are mounted where the Examples show.

    Args:
        uri: gs://<bucket>/<path>, or a path, which is left as it is.
        examples: path of the Examples.
        examples_uri: the same as gs:// URI.

    Raises:
        UserError: there is no such file, or how buckets are mounted here is not known.
    """
    path = Path(uri)
    if uri.startswith(BUCKETS):
        inside = examples_uri.removeprefix(BUCKETS)
        if not examples_uri.startswith(BUCKETS) or not examples.endswith(inside):
            raise UserError(f"--initial_weights={uri}: give --examples_uri too, which shows where buckets are mounted")
        path = Path(examples.removesuffix(inside) + uri.removeprefix(BUCKETS))
    if not path.is_file():
        raise UserError(f"--initial_weights={uri}: no such file; give a Keras file, such as gs://bucket/model.keras")
    return path


def take(network: keras.Model, file: Path) -> tuple[int, int]:
    """Gives a network's layers the weights of their namesakes.

    Args:
        network: is changed.
        file: a Keras file of any network.

    Returns:
        How many layers were given weights, and how many have any.

    Raises:
        UserError: the file is no Keras file, or no layer of it fits.
    """
    import keras

    try:
        other = keras.models.load_model(file, compile=False)
    except Exception as error:  # Keras raises whatever reading a zip, JSON and HDF5 may raise.
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(f"--initial_weights={file}: cannot be read as a Keras file ({reason})") from None
    there = {layer.name: layer.get_weights() for layer in other.layers}
    weighted = [layer for layer in network.layers if layer.weights]
    fitting = [
        layer
        for layer in weighted
        if [weight.shape for weight in there.get(layer.name, ())] == [tuple(weight.shape) for weight in layer.weights]
    ]
    if not fitting:
        shown = ", ".join(f"{layer.name} {tuple(layer.weights[0].shape)}" for layer in weighted[:3])
        raise UserError(
            f"--initial_weights={file}: none of its layers has the name and shapes of one of this network's"
            f" {len(weighted)} ({shown}, …); give a file of the same architecture and width, or leave it out"
        )
    for layer in fitting:
        layer.set_weights(there[layer.name])
    return len(fitting), len(weighted)
