"""Edits a finished `.tflite` file: output order and names, metadata and associated files.

A `.tflite` file is a FlatBuffer. It is edited in place, with the field numbers of TensorFlow's
schema (tensorflow/compiler/mlir/lite/schema/schema.fbs) and TensorFlow Lite's metadata
(metadata_schema.fbs of tflite-support): repacking it with the Python library would lose the
alignment of the weights that interpreters rely on.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

CFG = "model.cfg"
CLASS_NAMES = "classes.names"

# Field numbers.
_MODEL_VERSION, _MODEL_SUBGRAPHS, _MODEL_BUFFERS, _MODEL_METADATA = 0, 2, 4, 6
_MODEL_SIGNATURES = 7
_SUBGRAPH_TENSORS, _SUBGRAPH_OUTPUTS = 0, 2
_TENSOR_NAME = 3
_SIGNATURE_INPUTS, _SIGNATURE_OUTPUTS = 0, 1
_MAP_NAME, _MAP_TENSOR = 0, 1

_DESCRIPTIONS, _LABELS = 1, 2
"""Types of associated files: DESCRIPTIONS and TENSOR_AXIS_LABELS."""

_MAX_BYTES = 2**31 - 2**20
"""Bytes; larger models store some buffers at offsets from the start of the file."""


def with_outputs(content: bytes, outputs: Sequence[tuple[str, str]]) -> bytes:
    """Returns the model with its outputs reordered and the tensors of its signature renamed.

    The converter names them `StatefulPartitionedCall:1`, in arbitrary order.

    Args:
        content: a model with one signature.
        outputs: (name of the signature's output, new name of its tensor) in the wanted order. A
            tensor keeps its name if the new one does not fit in its place.
    """
    file = _File(content)
    graph = file.element(file.field(file.root, _MODEL_SUBGRAPHS), 0)
    signature = file.element(file.field(file.root, _MODEL_SIGNATURES), 0)
    tensors = file.field(graph, _SUBGRAPH_TENSORS)
    named = file.field(signature, _SIGNATURE_OUTPUTS)
    by_name = {file.text(entry, _MAP_NAME): entry for entry in file.elements(named)}
    entries = [by_name[name] for name, _ in outputs]
    numbers = [file.number(entry, _MAP_TENSOR) for entry in entries]
    renamed: set[int] = set()
    for number, (_, name) in zip(numbers, outputs, strict=True):
        if number not in renamed:
            renamed.add(number)
            file.rename(file.element(tensors, number), _TENSOR_NAME, name)
    for entry in file.elements(file.field(signature, _SIGNATURE_INPUTS)):
        tensor = file.element(tensors, file.number(entry, _MAP_TENSOR))
        file.rename(tensor, _TENSOR_NAME, file.text(entry, _MAP_NAME))
    file.put_numbers(file.field(graph, _SUBGRAPH_OUTPUTS), numbers)
    file.put_elements(named, entries)
    return bytes(file.content)


def with_metadata(content: bytes, name: str, files: Mapping[str, str]) -> bytes:
    """Returns the model with metadata that list the files `add_files` attaches.

    Offsets of a FlatBuffer point forward, so the new parts are prepended: a new root, and copies
    of its lists of buffers and metadata with one element more.

    Args:
        content: a model as the converter wrote it.
        name: name of the model.
        files: description of each file, by its name.
    """
    if len(content) > _MAX_BYTES:
        return content
    old = _File(content)
    fields = max(old.field_count(old.root), _MODEL_METADATA + 1)
    slots = {number: old.slot(old.root, number) for number in range(fields)}
    buffers = list(old.elements(old.field(old.root, _MODEL_BUFFERS)))
    entries = slots[_MODEL_METADATA]
    metadata = [] if entries is None else list(old.elements(old.pointed(entries)))
    # Offsets of the new parts, in this order.
    layout = 8
    root = _aligned(layout + 4 + 2 * fields, 4)
    buffer_list = root + 4 + 4 * fields
    metadata_list = buffer_list + 4 + 4 * (len(buffers) + 1)
    buffer_layout = metadata_list + 4 + 4 * (len(metadata) + 1)
    buffer = buffer_layout + 8
    entry_layout = buffer + 8
    entry = entry_layout + 8
    text = entry + 12
    title = b"TFLITE_METADATA"
    start = _aligned(text + 4 + len(title) + 1 + 4, 16) - 4  # of the data and their length
    data = _metadata(name, files)
    shift = _aligned(start + 4 + len(data), 16)
    front = bytearray(shift)

    def put_offset(place: int, target: int) -> None:
        struct.pack_into("<I", front, place, target - place)

    def put_vector(place: int, tables: Sequence[int], last: int) -> None:
        places = [*(table + shift for table in tables), last]
        struct.pack_into("<I", front, place, len(places))
        for number, table in enumerate(places):
            put_offset(place + 4 + 4 * number, table)

    put_offset(0, root)
    front[4:8] = content[4:8]
    present = [number for number in slots if slots[number] is not None or number == _MODEL_METADATA]
    struct.pack_into("<HH", front, layout, 4 + 2 * fields, 4 + 4 * fields)
    struct.pack_into("<i", front, root, root - layout)
    for number in present:
        struct.pack_into("<H", front, layout + 4 + 2 * number, 4 + 4 * number)
        place = root + 4 + 4 * number
        old_slot = slots[number]
        if number == _MODEL_BUFFERS:
            put_offset(place, buffer_list)
        elif number == _MODEL_METADATA:
            put_offset(place, metadata_list)
        elif old_slot is not None and number == _MODEL_VERSION:
            front[place : place + 4] = content[old_slot : old_slot + 4]
        elif old_slot is not None:
            put_offset(place, old.pointed(old_slot) + shift)
    put_vector(buffer_list, buffers, buffer)
    put_vector(metadata_list, metadata, entry)
    struct.pack_into("<HHH", front, buffer_layout, 6, 8, 4)
    struct.pack_into("<i", front, buffer, buffer - buffer_layout)
    put_offset(buffer + 4, start)
    struct.pack_into("<HHHH", front, entry_layout, 8, 12, 4, 8)
    struct.pack_into("<i", front, entry, entry - entry_layout)
    put_offset(entry + 4, text)
    struct.pack_into("<I", front, entry + 8, len(buffers))
    struct.pack_into(f"<I{len(title)}s", front, text, len(title), title)
    struct.pack_into(f"<I{len(data)}s", front, start, len(data), data)
    return bytes(front) + content


def _aligned(place: int, multiple: int) -> int:
    return -(-place // multiple) * multiple


def _metadata(name: str, files: Mapping[str, str]) -> bytes:
    """Returns a serialized `ModelMetadata` that lists the associated files."""
    import flatbuffers  # a dependency of TensorFlow

    builder = flatbuffers.Builder(256)
    tables = []
    for file, description in files.items():
        texts = [builder.CreateString(text) for text in (file, description)]
        builder.StartObject(3)
        for number, text in enumerate(texts):
            builder.PrependUOffsetTRelativeSlot(number, text, 0)
        builder.PrependInt8Slot(2, _LABELS if file == CLASS_NAMES else _DESCRIPTIONS, 0)
        tables.append(builder.EndObject())
    builder.StartVector(4, len(tables), 4)
    for table in reversed(tables):
        builder.PrependUOffsetTRelative(table)
    listed = builder.EndVector()
    title = builder.CreateString(name)
    builder.StartObject(7)
    builder.PrependUOffsetTRelativeSlot(0, title, 0)
    builder.PrependUOffsetTRelativeSlot(6, listed, 0)
    builder.Finish(builder.EndObject(), file_identifier=b"M001")
    return bytes(builder.Output())


def add_files(path: Path, files: Mapping[str, str]) -> None:
    """Appends files to a model as a zip archive, where readers of the metadata look for them.

    Args:
        path: the model file.
        files: text of each file, by name.
    """
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)  # no time stamp


class _File:
    """A FlatBuffer whose scalars, offsets and strings can be changed in place.

    A `place` is an offset in bytes from the start of the file.
    """

    def __init__(self, content: bytes) -> None:
        self.content = bytearray(content)
        self.root = self.pointed(0)

    def pointed(self, place: int) -> int:
        """Returns the place that the offset at `place` points to."""
        return place + int(struct.unpack_from("<I", self.content, place)[0])

    def field_count(self, table: int) -> int:
        """Returns the number of fields in the table's vtable, set or not."""
        layout = table - struct.unpack_from("<i", self.content, table)[0]
        return (int(struct.unpack_from("<H", self.content, layout)[0]) - 4) // 2

    def slot(self, table: int, number: int) -> int | None:
        """Returns the place of a field of the table; None if it has its default value."""
        layout = table - struct.unpack_from("<i", self.content, table)[0]
        size = struct.unpack_from("<H", self.content, layout)[0]
        entry = 4 + 2 * number
        if entry >= size:
            return None
        offset = struct.unpack_from("<H", self.content, layout + entry)[0]
        return table + offset if offset else None

    def field(self, table: int, number: int) -> int:
        """Returns the place of the vector or table that a field points to."""
        slot = self.slot(table, number)
        if slot is None:
            raise ValueError(f"field {number} of a FlatBuffer's table is missing")
        return self.pointed(slot)

    def number(self, table: int, number: int) -> int:
        slot = self.slot(table, number)
        return 0 if slot is None else int(struct.unpack_from("<I", self.content, slot)[0])

    def text(self, table: int, number: int) -> str:
        place = self.field(table, number)
        return self.content[place + 4 : place + 4 + self._length(place)].decode()

    def rename(self, table: int, number: int, text: str) -> None:
        """Replaces a string by `text`, unless `text` is longer."""
        place, encoded = self.field(table, number), text.encode()
        length = self._length(place)
        if len(encoded) <= length:
            struct.pack_into("<I", self.content, place, len(encoded))
            self.content[place + 4 : place + 4 + length] = encoded.ljust(length, b"\0")

    def _length(self, vector: int) -> int:
        return int(struct.unpack_from("<I", self.content, vector)[0])

    def elements(self, vector: int) -> Iterator[int]:
        """Yields the places of the tables in a vector."""
        return (self.element(vector, number) for number in range(self._length(vector)))

    def element(self, vector: int, number: int) -> int:
        return self.pointed(vector + 4 + 4 * number)

    def put_elements(self, vector: int, tables: Sequence[int]) -> None:
        """Reorders the tables of a vector."""
        places = range(vector + 4, vector + 4 + 4 * len(tables), 4)
        for place, table in zip(places, tables, strict=True):
            struct.pack_into("<I", self.content, place, table - place)

    def put_numbers(self, vector: int, numbers: Sequence[int]) -> None:
        struct.pack_into(f"<{len(numbers)}I", self.content, vector + 4, *numbers)
