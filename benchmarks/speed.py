"""Speed of the network: what each change is worth, and what the hardware could do.

python benchmarks/speed.py [--device cpu|cuda] [--threads N] [--batch N] [--rounds N]

Every row is the network of the row before with one change more, but for ONNX Runtime's; the first is written as the
paper draws it (``plain_network.py``). All rows take turns in each round. A ratio is the median of the ratios to the
plain form of the same round; a rate is the best. With one thread on the CPU processor seconds count, so that other
programs disturb less; else seconds on the clock.

ONNX Runtime has rows on the CPU alone. Its single precision is two graphs, one that encodes and one that relates. Its
integers are the graph that is shipped, which encodes and scores at once: what it takes for patches without pairs is
taken for encoding, and what it takes longer for the pairs of the same patches for relating.

* encode: patches a second through an encoder, with FIL's half that depends on one patch alone.
* relation: pairs a second whose patches are encoded already.
* pair: pairs a second whose patches both are new, from the two rates.
* floor: what the measured rates of this machine allow the plain form: its operations over the rate of the product of
  large matrices, or the bytes of the features over the rate of copying, whichever takes longer. A form with fewer
  operations may outdo it.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from operations import Operations
from plain_network import plain_encode, plain_form, plain_relation
from runtime_forms import Integers, SinglePrecision
from tables import markdown_table
from torch import Tensor

from rrl_register.nn.encoder import PATCH_SIZE
from rrl_register.nn.patches import Spectrum
from rrl_register.nn.rrlnet import PatchFeatures, RRLNet
from rrl_register.nn.runtime import autocast, fastest_dtype, fold_batch_norms
from rrl_register.nn.weights import load_weights

BATCH = {"cpu": 32, "cuda": 2048}
MATRIX_SIDE = {"cpu": 1024, "cuda": 8192}
COPIED_BYTES = 2**28
TIMES_MEASURED = 5

Encoder = Callable[[RRLNet, Tensor, Spectrum], PatchFeatures]
Relation = Callable[[RRLNet, PatchFeatures, PatchFeatures], Tensor]
Clock = Callable[[], float]


def main() -> None:
    """Read the arguments, measure, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=sorted(BATCH), default="cpu", help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="on the CPU; default: %(default)s")
    parser.add_argument("--batch", type=int, help=f"patches, and pairs, at a time; default: {BATCH}")
    parser.add_argument("--rounds", type=int, default=7, help="default: %(default)s")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("Error: --device cuda, but torch sees no GPU: take --device cpu, or install torch with CUDA")
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    clock = _clock(device, arguments.threads)
    patches = torch.rand(2, arguments.batch or BATCH[device.type], 1, PATCH_SIZE, PATCH_SIZE).to(device)
    with torch.inference_mode():
        network = load_weights()[0]
        forms = build_forms(network, device)
        others = runtime_forms(network, patches, arguments.threads) if device.type == "cpu" else []
        for _ in range(arguments.rounds + 1):
            for form in (*forms, *others):
                form.time(patches, clock)
        print(report([*forms, *others], Floor.measure(forms[0], patches, clock)))


@dataclass
class Timed:
    """One form of the network, and the seconds that it took in each round.

    Attributes:
        name: What it has that the form before has not.
        encoding: Seconds a patch, by round.
        relating: Seconds a pair, by round.
    """

    name: str
    encoding: list[float] = field(default_factory=list, kw_only=True)
    relating: list[float] = field(default_factory=list, kw_only=True)

    def add(self, n_pairs: int, encoding: float, relating: float) -> None:
        """Add a round: seconds for the patches of pairs, and for the pairs."""
        self.encoding.append(encoding / (2 * n_pairs))
        self.relating.append(relating / n_pairs)


@dataclass
class Form(Timed):
    """A form that PyTorch computes.

    Attributes:
        network: With these weights.
        encoder: Encodes patches of a spectrum.
        relation: Scores pairs of encoded patches.
        fastest: Whether it computes in the device's fastest format; else in single precision.
    """

    network: RRLNet
    encoder: Encoder = RRLNet.encode
    relation: Relation = RRLNet.score
    fastest: bool = False

    def time(self, patches: Tensor, clock: Clock) -> None:
        """Encode a batch of each spectrum, score the pairs."""
        with torch.autocast(patches.device.type, enabled=False) if not self.fastest else autocast(patches.device):
            start = clock()
            visible, other = self.encode(patches[0], Spectrum.VISIBLE), self.encode(patches[1], Spectrum.OTHER)
            between = clock()
            self.relation(self.network, visible, other)
            end = clock()
        self.add(patches.shape[1], between - start, end - between)

    def encode(self, patches: Tensor, spectrum: Spectrum) -> PatchFeatures:
        """Encode patches ``(N, 1, 64, 64)``."""
        return self.encoder(self.network, patches, spectrum)


@dataclass
class RuntimeForm(Timed):
    """ONNX Runtime in single precision."""

    graphs: SinglePrecision

    def time(self, patches: Tensor, clock: Clock) -> None:
        """As ``Form.time``."""
        start = clock()
        kept = self.graphs.encode(patches)
        between = clock()
        self.graphs.relate(kept)
        self.add(patches.shape[1], between - start, clock() - between)


@dataclass
class IntegerForm(Timed):
    """ONNX Runtime in integers."""

    graph: Integers

    def time(self, patches: Tensor, clock: Clock) -> None:
        """As ``Form.time``, the relation being what pairs take longer than their patches."""
        start = clock()
        self.graph.encode(patches)
        between = clock()
        self.graph.score(patches)
        self.add(patches.shape[1], between - start, (clock() - between) - (between - start))


def runtime_forms(network: RRLNet, patches: Tensor, threads: int) -> list[RuntimeForm | IntegerForm]:
    """Build the forms of ONNX Runtime, for as many patches as are given."""
    folded = copy.deepcopy(network)
    fold_batch_norms(folded)
    return [
        RuntimeForm("ONNX Runtime, single precision", SinglePrecision.of(folded, patches, threads)),
        IntegerForm("ONNX Runtime, int8", Integers.shipped(threads)),
    ]


def build_forms(network: RRLNet, device: torch.device) -> list[Form]:
    """Build the forms, from the paper's to the product's."""
    plain = plain_form(network).to(device)
    laid_out = copy.deepcopy(network).on(device)
    folded = copy.deepcopy(laid_out)
    fold_batch_norms(folded)
    forms = [
        Form("plain", plain, plain_encode, plain_relation),
        Form("MGLA without copies, channels-last", laid_out, relation=plain_relation),
        Form("batch norms folded", folded, relation=plain_relation),
        Form("private features alone", folded),
    ]
    if fastest_dtype(device) != torch.float32:
        forms.append(Form("bfloat16", folded, fastest=True))
    if device.type == "cuda":
        whole = copy.deepcopy(folded).on(device, fastest_dtype(device))
        forms.append(Form("weights in bfloat16, too", whole))
        made = torch.compile(RRLNet.encode), torch.compile(RRLNet.score)
        forms.append(Form("compiled by PyTorch", whole, *made))
    return forms


@dataclass(frozen=True)
class Floor:
    """Limits of the machine.

    Attributes:
        matrix_rate: Operations a second of a matrix product, in the device's fastest format.
        copy_rate: Bytes read and written a second when copying.
        encoding: Seconds a patch.
        relating: Seconds a pair.
    """

    matrix_rate: float
    copy_rate: float
    encoding: float
    relating: float

    @classmethod
    def measure(cls, form: Form, patches: Tensor, clock: Clock) -> Floor:
        """Measures the rates and counts what the plain form has to do."""
        matrix_rate, copy_rate = _matrix_rate(patches.device, clock), _copy_rate(patches.device, clock)
        some = patches[:, :2]
        counted = Operations.count(form.encode, partial(form.relation, form.network), some)
        stages = form.encode(some[0], Spectrum.VISIBLE).stages
        kept = fastest_dtype(patches.device).itemsize * sum(m[0].numel() for stage in stages for m in stage)
        return cls(
            matrix_rate,
            copy_rate,
            max(counted.patch / matrix_rate, kept / copy_rate),
            max(counted.pair / matrix_rate, 2 * kept / copy_rate),
        )


def report(forms: Sequence[Timed], floor: Floor) -> str:
    """Lay out the rates of the machine, and a row for each form."""
    plain = forms[0]
    header = ["form", "encode, patches/s", "x plain", "relation, pairs/s", "x plain", "pair, pairs/s", "x plain"]
    rows = [[form.name, *_cells(form, plain)] for form in forms]
    seconds = floor.encoding, floor.relating, 2 * floor.encoding + floor.relating
    rows.append(["floor of the plain form", *(cell for s in seconds for cell in (f"{1 / s:.0f}", "-"))])
    return (
        f"matrix product {floor.matrix_rate / 1e9:.1f} GFLOP/s, copying {floor.copy_rate / 1e9:.1f} GB/s\n\n"
        + markdown_table(header, rows)
    )


def _cells(form: Timed, plain: Timed) -> list[str]:
    """Rate and ratio of encoding, of relating, and of both for a pair; the first round warms up."""
    columns = []
    for kind in (lambda f: f.encoding, lambda f: f.relating, _whole):
        own, reference = kind(form)[1:], kind(plain)[1:]
        ratio = statistics.median(r / o for o, r in zip(own, reference, strict=True))
        columns += [f"{1 / min(own):.1f}", f"{ratio:.2f}"]
    return columns


def _whole(form: Timed) -> list[float]:
    return [2 * e + r for e, r in zip(form.encoding, form.relating, strict=True)]


def _clock(device: torch.device, threads: int) -> Clock:
    if device.type == "cuda":
        return _after_the_gpu
    return time.process_time if threads == 1 else time.perf_counter


def _after_the_gpu() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def _matrix_rate(device: torch.device, clock: Clock) -> float:
    side = MATRIX_SIDE[device.type]
    one = torch.rand(side, side, device=device, dtype=fastest_dtype(device))
    product = torch.empty_like(one)
    return 2 * side**3 / _best(lambda: torch.mm(one, one, out=product), clock)


def _copy_rate(device: torch.device, clock: Clock) -> float:
    source = torch.zeros(COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * COPIED_BYTES / _best(lambda: target.copy_(source), clock)


def _best(work: Callable[[], object], clock: Clock) -> float:
    seconds = []
    for _ in range(TIMES_MEASURED):
        start = clock()
        work()
        seconds.append(clock() - start)
    return min(seconds)


if __name__ == "__main__":
    main()
