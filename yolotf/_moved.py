"""Import paths of before the sub-packages: `yolotf.inference` is `yolotf.serving.inference`.

An old path gives the very module that has moved, so that classes are the same whichever path they
are imported by, and a `.keras` file that names `yolotf.keras_layers` loads.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

HOMES = {
    "cfg": "darknet.cfg",
    "convert": "formats.convert",
    "decode": "graphs.decode",
    "demo": "cli.demo",
    "detect": "cli.detect",
    "detections": "serving.detections",
    "folded": "graphs.folded",
    "graph_rules": "darknet.rules",
    "inference": "serving.inference",
    "keras_layers": "models.keras_layers",
    "keras_model": "models.build",
    "layout": "weights.layout",
    "load": "loading.load",
    "model_network": "models.network_like",
    "model_order": "models.order",
    "networks": "darknet.stock",
    "onednn": "graphs.onednn",
    "partial": "loading.partial",
    "planning": "loading.planning",
    "report": "diagnosis.render",
    "save": "loading.save",
    "tf_layers": "graphs.operations",
    "writing": "weights.write",
}
"""Old module of `yolotf` -> where it is now."""


class Finder(MetaPathFinder, Loader):
    """Finds an old path that no file answers to."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of an old path; None for all others."""
        package, _, module = name.rpartition(".")
        if package != "yolotf" or module not in HOMES:
            return None
        return ModuleSpec(name, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module at its new place; its own spec is put back by `exec_module`."""
        home = importlib.import_module(f"yolotf.{HOMES[spec.name.rpartition('.')[2]]}")
        spec.loader_state = home.__spec__, home.__loader__
        return home

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: the module has run at its new place."""
        spec = module.__spec__
        assert spec is not None
        module.__spec__, module.__loader__ = spec.loader_state
