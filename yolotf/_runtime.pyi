from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

def open(framework: str, cc: str) -> None: ...
def set_wait_at_end(seconds: float) -> None: ...
def version() -> str: ...
def onednn_enabled() -> bool: ...

class Tensors:
    def __init__(self, arrays: Sequence[NDArray[Any]]) -> None: ...

class Graph:
    def add(
        self,
        kind: str,
        name: str,
        inputs: list[int | list[int]],
        attributes: Mapping[str, tuple[str, Any]],
    ) -> list[tuple[int, int]]: ...

class Session:
    def __init__(self, graph: Graph, config: bytes) -> None: ...

class Call:
    def __init__(
        self, session: Session, graph: Graph, inputs: Sequence[int], outputs: Sequence[int]
    ) -> None: ...
    def run(
        self, arrays: Sequence[NDArray[Any]], constants: Tensors | None = None
    ) -> list[NDArray[Any]]: ...
