"""Pictures for the leakage page: images as data addresses, ROC curves as SVG text."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imsave

from protocols.report.charts import COLOURS, STYLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attacks.matrix.attack import Curve

__all__ = ["png", "roc"]

LEAST = 1e-3


def png(image: Sequence[Sequence[float]]) -> str:
    """Write a grey image as a data address.

    Args:
        image: rows of pixels in [0, 1].
    """
    data = io.BytesIO()
    imsave(data, np.asarray(image), cmap="gray", vmin=0.0, vmax=1.0, format="png")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


def roc(curves: Mapping[str, Curve], title: str) -> str:
    """Draw ROC curves on logarithmic axes, as SVG text.

    Args:
        curves: label -> curve.
        title: for readers that do not see it.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 4.4), layout="constrained")
        axes = figure.subplots()
        for (label, curve), colour in zip(curves.items(), COLOURS, strict=False):
            axes.plot(curve.fpr, curve.tpr, color=colour, linewidth=1.8, label=label)
        axes.plot([LEAST, 1], [LEAST, 1], color="#9ca3af", linewidth=1, linestyle=":", label="guessing")
        axes.set(
            xscale="log", yscale="log", xlim=(LEAST, 1), ylim=(LEAST, 1), xlabel="false positive rate",
            ylabel="true positive rate", aspect="equal",
        )  # fmt: skip
        axes.legend(frameon=False, fontsize=9, loc="lower right")
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Title": title})
    return text.getvalue()[text.getvalue().index("<svg") :]
