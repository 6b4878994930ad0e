"""RRL-Net quantised to 8 bits, run by ONNX Runtime on the CPU. Importing this does not load PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from rrl_register.config.files import parse_json, require_regular_file
from rrl_register.errors import InputError
from rrl_register.geometry.arrays import Indices, Patches
from rrl_register.nn.patches import PATCH_SIZE, Spectrum
from rrl_register.parallel import usable_cores

onnxruntime.disable_telemetry_events()  # if it was imported before this package
SHIPPED = files("rrl_register") / "nn" / "weights"
"""Not found by the name of the package that it lies in, which would load PyTorch."""
INTEGERS = "rrlnet_int8.onnx"
SINGLE_PRECISION = "rrlnet.safetensors"
CHECKSUM_NOTE = "weights_checksum"
"""Key of the metadata that holds the checksum of the weights that were quantised."""
INPUTS = ("visible", "other", "left", "right")
"""Patches ``(N, 1, 64, 64)`` of both spectra, single precision, and int64 indices ``(P,)`` of the pairs into them."""
PROBABILITY = "probability"
DESCRIPTORS = {spectrum: f"{spectrum.value}_descriptor" for spectrum in Spectrum}
PAIRS_PER_BATCH = 16
"""At most, so that their maps stay in the cache."""
FEWEST_PER_BATCH = 4
"""Below this the fixed cost of a batch shows."""
DESCRIPTOR_SIZE = 128
_PATCH, _NO_PAIRS = np.zeros((1, 1, PATCH_SIZE, PATCH_SIZE), np.float32), np.empty(0, np.int64)
_UNUSED: dict[str, NDArray[Any]] = dict(zip(INPUTS, (_PATCH, _PATCH, _NO_PAIRS, _NO_PAIRS), strict=True))
"""Inputs that an output does not depend on; one patch, because ONNX Runtime 1.20 cannot compute attention of none."""
_SIGNATURE = {
    name: ("tensor(float)" if array is _PATCH else "tensor(int64)", array.ndim) for name, array in _UNUSED.items()
}


class OnnxScorer:
    """RRL-Net as ``torch_backend.Scorer`` but for rounding: scores differ by 0.01 on average.

    Args:
        threads: At most; None: as many as this process has cores.
        model: File of ``pipelines/quantise_rrlnet.py``; None: the one shipped, whose weights are checked.
        weights: Weights that the shipped file must have been made from; None: those shipped.

    Attributes:
        device: Device that it runs on.
        name: ``<name> <first digits of the checksum> int8``.

    Raises:
        InputError: If the file cannot be used, or was made from other weights.
    """

    device = "cpu"

    def __init__(self, threads: int | None = None, model: Path | None = None, weights: Path | None = None) -> None:
        with as_file(SHIPPED / INTEGERS) as shipped:
            self._session = open_session(model or shipped)
        self._threads = threads or usable_cores()
        notes = self._session.get_modelmeta().custom_metadata_map
        checksum = notes.get(CHECKSUM_NOTE, "unknown")
        if model is None:
            with as_file(SHIPPED / SINGLE_PRECISION) as shipped:
                source = weights or shipped
                needed = read_notes(source).get("checksum", "unknown")
            if checksum == "unknown" or checksum != needed:
                raise InputError(
                    f"{INTEGERS} was made from weights {checksum[:8]}, {source.name} holds {needed[:8]}: "
                    "make it again (pipelines/quantise_rrlnet.py), or give --weights"
                )
        self.name = f"{notes.get('name', 'unnamed')} {checksum[:8]} int8"

    def describe(self, patches: Patches, spectrum: Spectrum) -> NDArray[np.float32]:
        """Return unit descriptors ``(N, 128)`` of patches ``(N, 1, 64, 64)``."""
        described = np.empty((len(patches), DESCRIPTOR_SIZE), np.float32)

        def describe(rows: Indices) -> None:
            """Describe some of the patches."""
            described[rows] = self._run(DESCRIPTORS[spectrum], {spectrum.value: patches[rows]})

        self._in_batches(describe, np.arange(len(patches)))
        return described

    def score(self, visible: Patches, other: Patches, left: Indices, right: Indices) -> NDArray[np.float32]:
        """Return probabilities ``(P,)`` that pairs of patches match, as ``torch_backend.Scorer.score``."""
        scores = np.empty(len(left), np.float32)

        def score(rows: Indices) -> None:
            """Score some of the pairs."""
            a, at_a = np.unique(left[rows], return_inverse=True)
            b, at_b = np.unique(right[rows], return_inverse=True)
            patches = {"visible": visible[a], "other": other[b]}
            scores[rows] = self._run(PROBABILITY, {**patches, "left": at_a, "right": at_b})

        self._in_batches(score, np.argsort(left, kind="stable"))
        return scores

    def _in_batches(self, work: Callable[[Indices], None], rows: Indices) -> None:
        """Run batches in parallel, one thread each: that loses less than several threads on each operator."""
        size = min(max(-(-len(rows) // self._threads), FEWEST_PER_BATCH), PAIRS_PER_BATCH)
        batches = [rows[start : start + size] for start in range(0, len(rows), size)]
        with ThreadPoolExecutor(self._threads, "network") as pool:
            for _ in pool.map(work, batches):
                pass

    def _run(self, output: str, given: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        try:
            (made,) = self._session.run([output], {**_UNUSED, **given})
        except Exception as error:
            raise InputError(_cannot_run(self.name, error)) from error
        return np.asarray(made, np.float32)


def read_notes(weights: Path) -> dict[str, str]:
    """Read the metadata of a safetensors file without the rest.

    Raises:
        InputError: If it is no such file.
    """
    try:
        require_regular_file(weights)
        with weights.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            notes = parse_json(file.read(min(length, weights.stat().st_size))).get("__metadata__", {})
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{weights} is no safetensors file ({error}): give weights of this program") from error
    return dict(notes)


def open_session(model: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """Load a quantised network.

    Raises:
        InputError: If the file cannot be run, or has other inputs or outputs.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    # The file was optimised with its conversions; a second search for better places only copies them.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        require_regular_file(model)
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a class of its own for each kind of failure
        raise InputError(_cannot_run(model, error)) from error
    if {each.name: (each.type, len(each.shape)) for each in session.get_inputs()} != _SIGNATURE or not {
        each.name for each in session.get_outputs()
    } >= {PROBABILITY, *DESCRIPTORS.values()}:
        raise InputError(
            f"{model} has other inputs or outputs than a quantised RRL-Net: "
            "give a file of pipelines/quantise_rrlnet.py, or .safetensors weights"
        )
    return session


def _cannot_run(model: Path | str, error: Exception) -> str:
    return f"{model} cannot be run ({str(error).splitlines()[0]}): install the program again, or give other weights"
