"""Export the network to one file: weights alone, or weights and computation as ONNX or TorchScript."""

from __future__ import annotations

import json
import logging
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from rrl_register.errors import InputError
from rrl_register.nn.architecture import Architecture
from rrl_register.nn.encoder import PATCH_SIZE
from rrl_register.nn.export_formats import ExportFormat
from rrl_register.nn.patches import Spectrum
from rrl_register.nn.rrlnet import RRLNet
from rrl_register.nn.runtime import fold_batch_norms
from rrl_register.nn.weights import Weights, prune_weights, read_weights, write_weights
from rrl_register.raster.writer import atomic_path
from rrl_register.training.run_files import load_checkpoint

INPUTS = ("visible", "other")
OUTPUTS = ("probability", "visible_descriptor", "other_descriptor")
NOTES_FILE = "rrl_register.json"
"""Name under which a TorchScript file keeps its notes, for ``torch.jit.load(..., _extra_files={NOTES_FILE: ""})``."""
OPSET = 18
"""The oldest of ONNX that PyTorch's exporter writes without conversion, for the most runtimes."""
_TRACED_PAIRS = 3


class PairScorer(nn.Module):
    """The network as one function of pairs of patches, for export.

    Args:
        network: Pruned, in evaluation mode; its batch norms are folded in place.
    """

    def __init__(self, network: RRLNet) -> None:
        super().__init__()
        self.network = network
        fold_batch_norms(network)

    def forward(self, visible: Tensor, other: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Score and describe pairs.

        Args:
            visible: ``(N, 1, 64, 64)``, single precision, values in [0, 1].
            other: The patches of the other spectrum, of the same shape.

        Returns:
            Probabilities ``(N,)`` that a pair shows the same place, and unit descriptors ``(N, 128)`` of both.
        """
        one, two = self.network.encode(visible, Spectrum.VISIBLE), self.network.encode(other, Spectrum.OTHER)
        return self.network.score(one, two), one.descriptors, two.descriptors


def source_weights(source: Path | None, name: str | None = None, new_name: str = "rrlnet") -> Weights:
    """Read the weights to export.

    Args:
        source: A weights file, or a checkpoint of a training, whose averaged weights are taken; None: the weights
            shipped with the package.
        name: New name; None: the present one.
        new_name: Name of weights from a checkpoint, which has none, if ``name`` is None.

    Raises:
        InputError: If the file is neither, or does not fit its architecture.
    """
    if source is None or not zipfile.is_zipfile(source):
        weights = read_weights(source)
    else:
        try:
            content = load_checkpoint(source)
            assert content is not None
            architecture = Architecture.from_dict(content.get("architecture", {}))
            notes = {"name": new_name, "steps": str(content["step"])}
            weights = prune_weights(content["mean"], notes, architecture)
        except InputError as error:
            raise InputError(f"{source} cannot be exported: {error}") from error
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{source} is no checkpoint of a training ({error}): give the checkpoint.pt of a run"
            ) from error
    licence = {"licence": "Apache-2.0"} if source is None else {}
    return replace(weights, notes={**weights.notes, **licence, **({"name": name} if name else {})})


def export_weights(weights: Weights, output: Path, kind: ExportFormat, overwrite: bool = False) -> None:
    """Write weights, or the network with them, to one file.

    Args:
        weights: Of ``source_weights`` or ``read_weights``.
        output: The file to write.
        kind: Its format. ONNX needs the extra ``onnx``.
        overwrite: Replace an existing file.

    Raises:
        OutputExistsError, UsageError, InputError: As ``raster.writer.atomic_path``.
    """
    write = {
        ExportFormat.SAFETENSORS: write_weights,
        ExportFormat.ONNX: _write_onnx,
        ExportFormat.TORCHSCRIPT: _write_torchscript,
    }[kind]
    with atomic_path(output, overwrite) as temporary:
        try:
            write(temporary, weights)
        except OSError as error:
            raise InputError(f"cannot write {output} ({error}); needed write access and room; try elsewhere") from error


def _write_onnx(path: Path, weights: Weights) -> None:
    scorer = PairScorer(weights.network())
    pairs = {0: torch.export.Dim("pairs")}
    with quiet_exporters():
        program = torch.onnx.export(
            scorer,
            _example(),
            input_names=INPUTS,
            output_names=OUTPUTS,
            dynamic_shapes=(pairs, pairs),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # source lines of the exporting machine
    program.model.metadata_props.update(weights.notes)
    program.save(path, external_data=False)


def _write_torchscript(path: Path, weights: Weights) -> None:
    scorer = PairScorer(weights.network())
    with quiet_exporters(), torch.no_grad():
        traced = torch.jit.trace(scorer, _example(), check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(traced, str(path), _extra_files={NOTES_FILE: json.dumps(weights.notes)})


def _example() -> tuple[Tensor, Tensor]:
    """Return some pairs to trace with, so that their number is not taken for a constant."""
    one, two = torch.rand(2, _TRACED_PAIRS, 1, PATCH_SIZE, PATCH_SIZE, generator=torch.Generator().manual_seed(0))
    return one, two


@contextmanager
def quiet_exporters() -> Iterator[None]:
    """Silence what exporters report about their own future, packages not needed, and checks that tracing omits."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log.setLevel(logging.ERROR)
        try:
            yield
        finally:
            log.setLevel(level)
