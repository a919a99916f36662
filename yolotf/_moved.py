"""Old import paths of modules that have moved: `yolotf.inference` was `yolotf.serving.inference`.

An old path gives the same module object as the new one, so that classes are identical whichever
path they are imported from, and `.keras` files and pickles with the old path can be loaded.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from importlib.abc import Loader

HOMES = {
    "cfg": "darknet.cfg",
    "convert": "formats.convert",
    "decode": "graphs.decode",
    "demo": "cli.demo",
    "detect": "cli.detect",
    "detections": "images.detections",
    "folded": "graphs.folded_network",
    "graph_rules": "darknet.graph_checks",
    "json_text": "files.json",
    "keras_layers": "models.keras_layers",
    "keras_model": "models.build",
    "layout": "weights.layout",
    "load": "loading.load",
    "model_network": "models.network_like",
    "model_order": "models.candidate_orders",
    "networks": "darknet.stock",
    "onednn": "graphs.onednn",
    "partial": "loading.partial",
    "planning": "loading.job",
    "report": "diagnosis.render",
    "save": "loading.save",
    "tf_layers": "graphs.operations",
    "writing": "weights.write",
    "cli.bars": "cli.progress",
    "darknet.head_rules": "darknet.decoding",
    "darknet.kinds": "files.magic",
    "darknet.rules": "darknet.graph_checks",
    "darknet.stored": "darknet.roles",
    "darknet.text": "darknet.syntax",
    "darknet.tree": "darknet.class_tree",
    "diagnosis.document": "diagnosis.report",
    "diagnosis.editing": "diagnosis.edit_registry",
    "diagnosis.edits": "diagnosis.mutations",
    "diagnosis.examination": "diagnosis.comparison",
    "diagnosis.explanation": "diagnosis.hypotheses",
    "diagnosis.facts": "diagnosis.summary_lines",
    "diagnosis.findings": "diagnosis.causes",
    "diagnosis.result": "diagnosis",
    "diagnosis.rows": "diagnosis.layer_table",
    "diagnosis.search": "diagnosis.scoring",
    "diagnosis.subject": "diagnosis.target",
    "formats.quiet": "files.stderr",
    "formats.source": "formats.request",
    "formats.traced": "formats.concrete_function",
    "graphs.failures": "graphs.tf_errors",
    "graphs.folded": "graphs.folded_network",
    "graphs.frames": "graphs.frame_loop",
    "graphs.joined": "graphs.lazy_concat",
    "graphs.memory": "graphs.memory_budget",
    "graphs.recurrent": "graphs.sections.recurrent",
    "graphs.tracing": "graphs.tf_operations",
    "inference.explained": "inference.diagnosed_errors",
    "loading.arguments": "loading.argument_checks",
    "loading.diagnosing": "loading.diagnose",
    "loading.planning": "loading.job",
    "loading.remembered": "loading.plan_cache",
    "models.arithmetic": "models.differences",
    "models.arrange": "models.order_by_file",
    "models.bind": "models.order_by_network",
    "models.building": "models.builder",
    "models.built": "models.layer_names",
    "models.difference": "models.difference_messages",
    "models.effects": "models.keras_calls",
    "models.forms": "models.expressions",
    "models.order": "models.candidate_orders",
    "models.structure": "models.units",
    "models.walk": "models.traversal",
    "models.which_keras": "models.keras_module",
    "models.wiring": "models.keras_graph",
    "ray.answers": "ray.responses",
    "ray.pictures": "ray.images",
    "runtime.fitting": "runtime.resize",
    "runtime.library": "runtime.tensorflow_library",
    "serving.classes": "inference.classifier_head",
    "serving.classifier": "inference.classifier",
    "serving.classifier_function": "inference.classifier_function",
    "serving.collector": "inference.gc_pause",
    "serving.detections": "images.detections",
    "serving.detector": "inference.detector",
    "serving.evaluation": "evaluation",
    "serving.explained": "inference.diagnosed_errors",
    "serving.export": "inference.export",
    "serving.fonts": "images.fonts",
    "serving.function": "inference.function_builder",
    "serving.inference": "inference",
    "serving.pictures": "images.read",
    "serving.ray": "ray",
    "serving.served": "inference.served_network",
    "serving.stream": "inference.recurrent_state",
    "serving.thresholds": "darknet.detection_options",
    "serving.traced": "inference.tensorflow_engine",
    "weights.content": "weights.statistics",
    "weights.contents": "files.detect",
    "weights.evidence": "weights.likelihood",
    "weights.known": "weights.catalog",
    "weights.names": "darknet.class_names",
    "weights.native": "weights.op_library",
    "weights.output": "files.atomic",
    "weights.segments": "weights.layout",
    "weights.sources": "files.sources",
    "serving.evaluation.coco": "evaluation.coco",
    "serving.evaluation.compare": "evaluation.comparison",
    "serving.evaluation.darknet_score": "evaluation.darknet_score",
    "serving.evaluation.data_set": "evaluation.data_set",
    "serving.evaluation.detecting": "evaluation.detecting",
    "serving.evaluation.plot": "evaluation.curve",
    "serving.evaluation.run": "evaluation.run",
}
"""Current path of each moved module of `yolotf`, by its old path."""


class Finder:
    """Finder and loader for `importlib` that resolves old paths, for which there is no file.

    It comes last in `sys.meta_path`, so that other imports do not wait for it. It does not derive
    from the classes of `importlib.abc`, whose import takes longer than the rest of `yolotf`.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Returns the spec of an old path; None for any other module."""
        root, _, module = name.partition(".")
        if root != "yolotf" or module not in HOMES:
            return None
        return ModuleSpec(name, cast("Loader", self))

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Returns the module at its new path; `exec_module` restores the module's spec."""
        home = importlib.import_module(f"yolotf.{HOMES[spec.name.partition('.')[2]]}")
        spec.loader_state = home.__spec__, home.__loader__
        return home

    def exec_module(self, module: ModuleType) -> None:
        """Restores the module's spec; its code has run when it was imported from its new path.

        All modules of a moved package are registered now. If one of them were imported later, it
        would replace an attribute of the package with its name, such as a function.
        """
        spec = module.__spec__
        assert spec is not None
        module.__spec__, module.__loader__ = spec.loader_state
        for old, home in HOMES.items():
            if f"yolotf.{old}".startswith(f"{spec.name}."):
                sys.modules[f"yolotf.{old}"] = importlib.import_module(f"yolotf.{home}")
