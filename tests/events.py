"""TensorBoard's event files, read as TensorBoard reads them."""

from __future__ import annotations

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.util import tensor_util


def read(folder: Path) -> EventAccumulator:
    """All of one folder, with nothing left out."""
    found = EventAccumulator(str(folder), {"tensors": 0}, purge_orphaned_data=False)
    return found.Reload()


def tags(found: EventAccumulator, plugin: str) -> dict[str, bytes]:
    """What one of TensorBoard's pages shows, by tag; nothing where there is no such."""
    try:
        contents: dict[str, bytes] = found.PluginTagToContent(plugin)
    except KeyError:
        return {}
    return contents


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of every tag of numbers, in the order in which they were written."""
    found = read(folder)
    return {
        tag: [
            (event.step, float(tensor_util.make_ndarray(event.tensor_proto)))
            for event in found.Tensors(tag)
        ]
        for tag in tags(found, "scalars")
    }


def texts(folder: Path) -> dict[str, list[tuple[int, str]]]:
    """The same of texts."""
    found = read(folder)
    return {
        tag: [
            (event.step, tensor_util.make_ndarray(event.tensor_proto).item().decode())
            for event in found.Tensors(tag)
        ]
        for tag in tags(found, "text")
    }


def hyperparameters(folder: Path) -> dict[str, HParamsPluginData]:
    """What the page of hyperparameters is told, by tag."""
    contents = tags(read(folder), "hparams")
    return {tag: HParamsPluginData.FromString(content) for tag, content in contents.items()}
