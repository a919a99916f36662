"""Plots precision-recall curves."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from yolotf.errors import optional_package
from yolotf.evaluation.darknet_score import Score
from yolotf.files import atomic, output_target
from yolotf.files.paths import StrPath

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure_for(path: StrPath, *, overwrite: bool = True, inputs: Iterable[StrPath] = ()) -> Figure:
    """Returns an empty figure that can be saved as `path`; writes nothing.

    Args:
        path: where it will be saved.
        overwrite: False refuses to replace an existing file.
        inputs: files that are never replaced.

    Raises:
        MissingPackageError: matplotlib is not installed.
        ValueError: matplotlib does not support the extension.
        OSError: the folder does not exist, or the file must not be replaced.
    """
    with optional_package("matplotlib", "a plot needs matplotlib", "yolotf[eval]"):
        from matplotlib.figure import Figure  # optional
    figure = Figure(figsize=(7, 5), layout="constrained")
    output_target.check_no_url(path)
    target = Path(path)
    formats = figure.canvas.get_supported_filetypes()
    if target.suffix[1:].lower() not in formats:
        raise ValueError(
            f"{target}: a plot cannot end in {target.suffix or 'nothing'}; use one of "
            f"{', '.join('.' + extension for extension in sorted(formats))}"
        )
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target.parent}: no such folder; create it first")
    output_target.checked_target(path, overwrite=overwrite, inputs=inputs)
    return figure


def plot(
    result: Score, path: StrPath, *, overwrite: bool = True, inputs: Iterable[StrPath] = ()
) -> None:
    """Plots the precision-recall curve of every class; the extension of `path` sets the format.

    Args:
        result: the result of `evaluate`.
        path: the plot, written atomically.
        overwrite: False refuses to replace an existing file.
        inputs: files that are never replaced.

    Raises:
        MissingPackageError: matplotlib is not installed.
        ValueError: matplotlib does not support the extension.
        OSError: the file cannot be written, or must not be replaced.
    """
    figure = figure_for(path, overwrite=overwrite, inputs=inputs)
    axes = figure.add_subplot()
    classes = [score for score in result.classes if score.truths]
    has_legend = 0 < len(classes) <= 20
    for score in classes:
        label = f"{score.name} {100 * score.ap:.1f} %" if has_legend else None
        recalls = np.concatenate([[0.0], score.recalls])
        precisions = np.concatenate([score.precisions[:1], score.precisions])
        if len(score.precisions):
            axes.plot(recalls, precisions, label=label, linewidth=1)
    axes.set(
        xlabel="recall",
        ylabel="precision",
        xlim=(0, 1.01),
        ylim=(0, 1.01),
        title=f"mAP@{result.match_iou:.2f} = {100 * result.mean_ap:.2f} %",
    )
    axes.grid(alpha=0.3)
    if has_legend:
        axes.legend(fontsize="small")
    content = io.BytesIO()
    figure.savefig(content, dpi=150, format=Path(path).suffix[1:].lower())
    atomic.write(path, content.getvalue(), overwrite=overwrite, inputs=inputs)
