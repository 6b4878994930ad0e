"""The shipped network in integers of 8 bits, run by ONNX Runtime on the CPU; importing this does not load PyTorch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from rrl_register.errors import InputError
from rrl_register.geometry.arrays import Indices, Patches
from rrl_register.nn.encoder_choice import Spectrum
from rrl_register.nn.patches import PATCH_SIZE
from rrl_register.parallel import usable_cores

SHIPPED = files("rrl_register") / "nn" / "weights"
"""Not found by the name of the package that it lies in, which would load PyTorch."""
INTEGERS = "rrlnet_int8.onnx"
SINGLE_PRECISION = "rrlnet.safetensors"
CHECKSUM_NOTE = "weights_checksum"
"""Names, in the notes of the integers, the checksum of the weights that they were made from."""
PAIRS_PER_BATCH = 16
"""At most: their maps stay in the cache."""
FEWEST_PER_BATCH = 4
"""Below this what a batch costs by itself shows."""
DESCRIPTOR_SIZE = 128
_NOTHING = {
    **dict.fromkeys(("visible", "other"), np.zeros((1, 1, PATCH_SIZE, PATCH_SIZE), np.float32)),
    **dict.fromkeys(("left", "right"), np.empty(0, np.int64)),
}
"""What is given where nothing is asked: one patch, for ONNX Runtime 1.20 cannot compute attention of none."""
_ERROR_LEVEL = 3


class OnnxScorer:
    """The shipped RRL-Net for inference, as ``scoring.Scorer`` but for rounding: scores differ by 0.01 on average.

    Args:
        threads: At most; None: as many as this process has cores.
        model: The file of integers; None: the one shipped.
        weights: The weights that it has to be made from; None: those shipped.

    Attributes:
        device: Where it runs.
        name: ``<name> <first digits of the checksum> int8``.

    Raises:
        InputError: If the file cannot be used, or was made from other weights.
    """

    device = "cpu"

    def __init__(self, threads: int | None = None, model: Path | None = None, weights: Path | None = None) -> None:
        with as_file(SHIPPED / INTEGERS) as shipped:
            self._session = open_session(model or shipped)
        self._threads = threads or usable_cores()
        made_from = self._session.get_modelmeta().custom_metadata_map
        with as_file(SHIPPED / SINGLE_PRECISION) as shipped:
            checksum = read_notes(weights or shipped).get("checksum")
        if not checksum or made_from.get(CHECKSUM_NOTE) != checksum:
            raise InputError(
                f"{model or INTEGERS} was made from weights {made_from.get(CHECKSUM_NOTE, 'unknown')[:8]}, "
                f"{weights or SINGLE_PRECISION} holds {(checksum or 'unknown')[:8]}: make it again "
                "(pipelines/quantise_rrlnet.py), or give --weights"
            )
        self.name = f"{made_from['name']} {checksum[:8]} int8"

    def describe(self, patches: Patches, spectrum: Spectrum) -> NDArray[np.float32]:
        """Unit descriptors ``(N, 128)`` of patches ``(N, 1, 64, 64)``."""
        described = np.empty((len(patches), DESCRIPTOR_SIZE), np.float32)

        def describe(rows: Indices) -> None:
            """Fills in the descriptors of some patches."""
            described[rows] = self._run(f"{spectrum.value}_descriptor", {spectrum.value: patches[rows]})

        self._in_batches(describe, np.arange(len(patches)))
        return described

    def score(self, visible: Patches, other: Patches, left: Indices, right: Indices) -> NDArray[np.float32]:
        """Probabilities ``(P,)`` that pairs of patches match, as ``scoring.Scorer.score``."""
        scores = np.empty(len(left), np.float32)

        def score(rows: Indices) -> None:
            """Fills in the probabilities of some pairs."""
            a, at_a = np.unique(left[rows], return_inverse=True)
            b, at_b = np.unique(right[rows], return_inverse=True)
            patches = {"visible": visible[a], "other": other[b]}
            scores[rows] = self._run("probability", {**patches, "left": at_a, "right": at_b})

        self._in_batches(score, np.argsort(left, kind="stable"))
        return scores

    def _in_batches(self, work: Callable[[Indices], None], rows: Indices) -> None:
        """Works on some rows at a time, in as many threads: less is lost so than by many on each operator."""
        size = min(max(-(-len(rows) // self._threads), FEWEST_PER_BATCH), PAIRS_PER_BATCH)
        batches = [rows[start : start + size] for start in range(0, len(rows), size)]
        with ThreadPoolExecutor(self._threads, "network") as pool:
            for _ in pool.map(work, batches):
                pass

    def _run(self, output: str, given: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        (made,) = self._session.run([output], {**_NOTHING, **given})
        return np.asarray(made, np.float32)


def read_notes(weights: Path) -> dict[str, str]:
    """What a safetensors file says of itself, without reading the rest.

    Raises:
        InputError: If it is no such file.
    """
    try:
        with weights.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            notes = json.loads(file.read(min(length, weights.stat().st_size))).get("__metadata__", {})
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{weights} is no safetensors file ({error}): give weights of this program") from error
    return dict(notes)


def open_session(model: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """Makes a file of integers ready to be run.

    Raises:
        InputError: If it is no such file.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _ERROR_LEVEL
    # The model has its integer operators already. What looks for places to put such copies the conversions to numbers
    # once for each operator that takes them.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a class of its own for each kind of failure
        raise InputError(f"{model} cannot be run ({error}): install the program again, or give --weights") from error
