"""Computes the keys of a report again and compares them, and lists the keys that are taken on trust.

Some keys follow from the file and the user's functions. Others also need the original, the base, or numbers that the user gives. `_Book`
begins with the list of all keys of the report, and each comparison takes its keys off the list. The keys that remain are taken on trust. So a
key that this module doesn't know can't pass as checked.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor, nn

from nncomplexity.checkpoint import Checkpoint
from nncomplexity.codecs import CODECS, VERSION
from nncomplexity.errors import InputError
from nncomplexity.file import CoarseFile, exact, lengths
from nncomplexity.linalg import large_network
from nncomplexity.measure.claims import ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE, Claim, alike, close, same
from nncomplexity.measure.layers import layers_of
from nncomplexity.measure.report import SCHEMA
from nncomplexity.measure.reported import Reported, bound_of
from nncomplexity.network import Faithfulness, Task, base_of, constant_loss_of, constant_risk, left_out, real_view, skeleton_of
from nncomplexity.words import Eps, Relative, python_number

WHOLE = ("curve", "best_bound", "spread", "lossless_bits", "warnings", "notes", "tolerance", "task", "data", "settings")
"""Keys that are listed as one key, although their values contain keys."""
_FUNCTIONS = ("loss_fn", "model", "risk_fn", "outputs", "inputs")
_OF_LAYERS = ("name", "names", "shape", "dtype", "form", "rank", "step", "bits", "relative", "layout")


@dataclass(frozen=True)
class Typed:
    """Values that the caller gives, and that the report must not contradict. None means that a value isn't given.

    Attributes:
        eps: the distortion bound.
        n, delta, chance: the arguments of the bound.
        functions: the names of functions, by the report's keys, such as `loss_fn`; also `divergence` and `probe`.
        task: the source files of the functions, each a `file` and its `sha256`, as in a certificate.
        data: the files of data, in the same form.
    """

    eps: Eps | None = None
    n: int | None = None
    delta: float | None = None
    chance: float | None = None
    functions: Mapping[str, str | None] = field(default_factory=dict)
    task: tuple[Mapping[str, str], ...] | None = None
    data: tuple[Mapping[str, str], ...] | None = None


@dataclass(frozen=True)
class Evidence:
    """The measurements of a file, with which a report is compared."""

    file: CoarseFile
    weights: Mapping[str, Tensor]
    task: Task
    coarse_loss: float
    loss: float | None
    """The loss of the original, if the original is given."""
    risk: float | None
    against: Checkpoint | None
    faithfulness: Faithfulness | None
    typed: Typed


def reported_claims(reported: Reported, found: Evidence) -> tuple[list[Claim], tuple[str, ...]]:
    """The claims of a report about a file, and the names of the keys that are taken on trust."""
    book = _Book(reported)
    _file_claims(book, found)
    _loss_claims(book, found)
    _bound_claims(book, found)
    _length_claims(book, found)
    _network_claims(book, found)
    _faithful_claims(book, found)
    _typed_claims(book, found.typed)
    others = (f"{reported.others} results of other files",) if reported.others else ()
    return book.claims, (*book.left, *others)


class _Book:
    """The claims so far, and the keys of the report that are not compared yet."""

    def __init__(self, reported: Reported) -> None:
        self.about, self.result, self.loss = reported.about, reported.result, reported.loss
        self.base_sha256, self.sha256 = reported.base_sha256, reported.sha256
        self.claims: list[Claim] = []
        # A dictionary instead of a set keeps the order of the report.
        self.left = dict.fromkeys((*_names(self.about), *_names(self.result)))

    def add(self, claim: Claim, *keys: str) -> None:
        """Add a claim, and take the keys that it compares off the list."""
        self.claims.append(claim)
        self.done(*keys)

    def done(self, *keys: str) -> None:
        for key in keys:
            self.left.pop(key, None)

    def same(self, holder: Mapping[str, Any], key: str, found: object, *, name: str | None = None) -> None:
        """If the holder has the key, add the claim that its value is the one found."""
        if key in holder:
            self.add(same(f"reported {name or key}", found, holder[key]), name or key)


def _names(holder: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The keys of an object; a key of an object inside it is written with a dot, such as `bound.risk`."""
    names = []
    for key, value in holder.items():
        entries = value if isinstance(value, list) and value and all(isinstance(one, dict) for one in value) else [value]
        inside = [one for one in entries if isinstance(one, dict) and one]
        if inside and key not in WHOLE:
            names += [name for one in inside for name in _names(one, f"{prefix}{key}.")]
        else:
            names.append(f"{prefix}{key}")
    return names


def _file_claims(book: _Book, found: Evidence) -> None:
    """Claims that follow from the file alone."""
    file, result = found.file, book.result
    book.same(result, "bits", file.bits)
    book.same(result, "file_bits", file.file_bits)
    book.same(result, "codec", file.codec.name)
    book.same(book.about, "schema", SCHEMA)
    book.same(book.about, "parameters", file.skeleton.parameters)
    book.same(book.about, "raw_bits", file.skeleton.raw_bits)
    book.same(book.about, "tolerance", {"relative": RELATIVE_TOLERANCE, "absolute": ABSOLUTE_TOLERANCE})
    book.same(book.about, "file_sha256", hashlib.sha256(file.content).hexdigest())
    if "decoded_sha256" in book.about:
        book.same(book.about, "decoded_sha256", _digest(found.weights))
    if "layers" in result or "shared_bits" in result:
        layers, shared = layers_of(file, dict.fromkeys(spec.name for spec in file.skeleton.real.tensors))
        book.same(result, "shared_bits", shared)
        there = result.get("layers")
        if isinstance(there, list):
            here = [asdict(layer) for layer in layers]
            book.add(_layers_claim(here, there), *(f"layers.{key}" for key in _OF_LAYERS), *(() if there else ("layers",)))


def _digest(weights: Mapping[str, Tensor]) -> str | None:
    try:
        return base_of(weights, "weights").sha256
    except InputError:  # decoded weights with a NaN have no digest
        return None


def _layers_claim(here: list[dict[str, Any]], there: list[dict[str, Any]]) -> Claim:
    """The claim that the report's layers are those of the file. An entry may lack keys, as reports of older versions do."""
    if len(here) != len(there):
        return Claim("reported layers", False, f"{len(here):,} layers, {len(there):,} claimed")
    for one, other in zip(here, there, strict=True):
        for key in _OF_LAYERS:
            if key in other and not (_near(one[key], other[key]) if key == "bits" else alike(one[key], other[key])):
                claim = same("", one[key], other[key])
                return Claim("reported layers", False, f"{key} of {one['name']}: {claim.figures}")
    return Claim("reported layers", True, f"{len(here):,} layers as claimed")


def _near(one: Any, other: Any) -> bool:
    """Whether two sizes of a layer in bits agree. They are sums of logarithms, and libraries round logarithms differently."""
    number = python_number(other)
    return isinstance(number, int | float) and math.isclose(one, number, rel_tol=1e-6, abs_tol=1e-6)


def _loss_claims(book: _Book, found: Evidence) -> None:
    """Claims about the losses, the distortion, and an ε that is a share."""
    result = book.result
    book.add(close("reported coarse_loss", found.coarse_loss, result["coarse_loss"]), "coarse_loss")
    loss = book.loss if found.loss is None else found.loss
    # The error of a difference of two losses is as large as the errors of the losses.
    of = max(abs(book.loss), abs(found.coarse_loss))
    distortion = abs(loss - found.coarse_loss)
    book.add(close("reported distortion", distortion, result["distortion"], of=of), "distortion")
    if found.loss is not None:
        book.add(close("reported loss", found.loss, book.loss), "loss")
    share = result.get("eps_relative")
    zero = book.about.get("zero_loss")
    if "zero_loss" in book.about or share is not None:
        zero = constant_loss_of(found.task.loss, found.weights)
    if "zero_loss" in book.about:
        said = book.about["zero_loss"]
        measured = zero is not None and isinstance(said, int | float) and not isinstance(said, bool)
        book.add((close if measured else same)("reported zero_loss", zero, said), "zero_loss")  # type: ignore[arg-type]
    if share is not None and zero is not None:
        book.add(close("reported eps", share * abs(zero - loss), result["eps"], of=share * max(abs(zero), abs(loss))), "eps")


def _bound_claims(book: _Book, found: Evidence) -> None:
    """Claims about the bound. The risk is measured; the bound follows from the risk, n, δ, chance and the bits."""
    promise = book.result.get("bound")
    if not isinstance(promise, Mapping) or not promise:
        return
    if found.risk is not None:
        book.add(close("reported risk", found.risk, promise["risk"]), "bound.risk")
        if promise.get("constant_risk") is not None:
            constant = constant_risk(found.task.risk, found.weights)
            said = promise["constant_risk"]
            claim = same("reported constant_risk", constant, said)
            book.add(claim if constant is None else close("reported constant_risk", constant, said), "bound.constant_risk")
    # The bound is computed from the reported risk, not from the measured one: the claim above already compares the two risks.
    derived = bound_of(found.file.bits, promise).to_dict()
    keys = [key for key in ("value", "vacuous", "bits_needed", "constant_bound") if key in promise]
    wrong = next((key for key in keys if not alike(derived[key], promise[key])), None)
    figures = same("", derived[wrong or "value"], promise[wrong or "value"]).figures
    text = figures if wrong in (None, "value") else f"{wrong}: {figures}"
    book.add(Claim("reported bound", wrong is None, text), "bound.kind", *(f"bound.{key}" for key in keys))


def _length_claims(book: _Book, found: Evidence) -> None:
    """The claim about the description length, with the caller's n or the n of the bound."""
    length = book.result.get("description_length")
    if not isinstance(length, Mapping) or not length:
        return
    # A report has n only with a bound. Without n, the bits of the data can't be computed again.
    n = found.typed.n or (book.result.get("bound") or {}).get("n")
    data = length["data_bits"] if n is None else n * found.coarse_loss / math.log(2)
    holds = (
        length["model_bits"] == found.file.bits
        and close("", data, length["data_bits"]).holds
        and alike(float(length["total_bits"]), length["model_bits"] + length["data_bits"])
    )
    figures = f"{found.file.bits:,} + {data:,.6g} bits, {length['model_bits']:,} + {length['data_bits']:,.6g} claimed"
    keys = ("model_bits", "total_bits", *(() if n is None else ("data_bits",)))
    book.add(Claim("reported description_length", holds, figures), *(f"description_length.{key}" for key in keys))


def _network_claims(book: _Book, found: Evidence) -> None:
    """Claims that follow from the original and the base."""
    file, about = found.file, book.about
    if book.base_sha256 or file.base_sha256:
        figures = f"{_short(file.base_sha256)}, {_short(book.base_sha256)} claimed"
        book.add(Claim("reported base", book.base_sha256 == file.base_sha256, figures), "relative_to.sha256")
    elif about.get("relative_to") is None:
        book.done("relative_to")
    else:
        # The report names a base without its hash, and the file has no base, so this claim fails.
        book.same(about, "relative_to", None)
    if file.base is not None and isinstance(about.get("relative_to"), Mapping):
        without = tuple(spec.name for spec in file.skeleton.tensors if spec.base is None)
        for key, value in (("without_base", without), ("unused", file.base.unused(file.skeleton))):
            if key in about["relative_to"]:
                said = about["relative_to"][key]
                names = sorted(map(str, said)) if isinstance(said, list) else said
                book.add(same(f"reported {key}", sorted(value), names), f"relative_to.{key}")
    # Only a module has names that are left out, so both calls must have had a module, or both none.
    if "left_out" in about and (about.get("model") is None) == (found.task.build is None):
        network = found.task.network(found.weights)
        book.same(about, "left_out", list(left_out(network)) if isinstance(network, nn.Module) else [])
    against = found.against
    if against is None:
        return
    figures = f"{_short(against.sha256)}, {str(book.sha256)[:12]}… claimed"
    book.add(Claim("reported sha256", against.sha256 == book.sha256, figures), "sha256")
    book.same(about, "key", against.key)
    # This program writes only the present version of the format. An older file's report has the sizes of lossless files of its version.
    if isinstance(about.get("lossless_bits"), Mapping) and file.version == VERSION:
        known = {codec.name for codec in CODECS}.issuperset(about["lossless_bits"])  # a user's codec may be missing here
        book.add(_lossless_claim(about["lossless_bits"], found, against), *(["lossless_bits"] if known else []))


def _lossless_claim(said: Mapping[str, Any], found: Evidence, against: Checkpoint) -> Claim:
    """The claim that lossless files of the original take these bits under each codec."""
    network = found.task.network(against.tensors)
    state = network.state_dict() if isinstance(network, nn.Module) else network
    # In the order of the file, since a byte codec's output depends on it.
    names = [name for spec in found.file.skeleton.tensors for name in spec.names]
    tensors = {name: state[name] for name in names if isinstance(state.get(name), Tensor)}
    if not tensors:
        return Claim("reported lossless_bits", False, "none of the file's tensors in the original")
    stored = skeleton_of(tensors)
    stored = stored if found.file.base is None else found.file.base.under(stored)
    whole = [exact(real_view(tensors[spec.name].detach().cpu()), spec.base) for spec in stored.real.tensors]
    if not all(isinstance(bits, int) and not isinstance(bits, bool) for bits in said.values() if bits is not None):
        return Claim("reported lossless_bits", False, "expected whole numbers, got something else claimed")
    known = [codec for codec in CODECS if codec.name in said]
    # A report of a large network has only the entropy codec's size, from −log₂ of probabilities.
    if large_network(stored.parameters):
        known = [codec for codec in known if codec.name == CODECS[0].name]
    sizes = lengths(stored, whole, known)
    here = {codec.name: 8 * size for codec, size in zip(known, sizes, strict=True)}
    # That size is computed and not counted in a file, so the two can differ by a few bytes.
    slack = 0.001 if large_network(stored.parameters) else 0.0
    wrong = next((name for name, bits in here.items() if said[name] is None or abs(bits - said[name]) > slack * bits), None)
    names = [wrong] if wrong else list(here)
    figures = "; ".join(f"{name} {here[name]:,}, {'none' if said[name] is None else f'{said[name]:,}'} claimed" for name in names)
    return Claim("reported lossless_bits", wrong is None, figures or "none claimed")


def _faithful_claims(book: _Book, found: Evidence) -> None:
    """Claims about the faithfulness of the file, on the searched and on the held-out inputs."""
    said, here = book.result.get("faithfulness"), found.faithfulness
    if not isinstance(said, Mapping) or here is None:
        return
    book.same(said, "kind", here.kind, name="faithfulness.kind")
    for part in ("searched", "held_out"):
        there, measured = said.get(part), getattr(here, part)
        if not isinstance(there, Mapping) or measured is None:
            continue
        for key, value in measured.to_dict().items():
            if key not in there:
                continue
            name = f"reported {key}" + ("" if part == "searched" else ", held out")
            numbers = value is not None and isinstance(there[key], int | float) and not isinstance(value, int)
            claim = close(name, value, there[key]) if numbers else same(name, value, there[key])
            book.add(claim, f"faithfulness.{part}.{key}")


def _typed_claims(book: _Book, typed: Typed) -> None:
    """Claims that the report agrees with the values that the caller gives."""
    result, about = book.result, book.about
    if isinstance(typed.eps, Relative):
        book.add(same("reported eps_relative", typed.eps.share, result.get("eps_relative")), "eps_relative")
    elif typed.eps is not None:
        book.add(same("reported eps", float(typed.eps), float(result["eps"])), "eps")
        if result.get("eps_relative") is None:
            book.done("eps_relative")
    promise = result.get("bound") or {}
    for key in ("n", "delta", "chance"):
        value = getattr(typed, key)
        if value is not None and key in promise:
            book.same(promise, key, value, name=f"bound.{key}")
    for key in _FUNCTIONS:
        name, said = typed.functions.get(key), about.get(key)
        if name is not None and isinstance(said, str):
            book.add(Claim(f"reported {key}", _called(name) == _called(said), f"{name}, {said} claimed"), key)
    for key in ("divergence", "probe"):
        if typed.functions.get(key) is not None and isinstance(about.get(key), str):
            book.same(about, key, typed.functions[key])
    _hash_claims(book, typed)


def _hash_claims(book: _Book, typed: Typed) -> None:
    """Claims about the hashes of a certificate's source files and data. The folders of the files don't matter."""
    given: tuple[tuple[str, tuple[Mapping[str, str], ...] | None], ...] = (("task", typed.task), ("data", typed.data))
    for key, files in given:
        said = book.about.get(key)
        if files is None or said is None or said == []:
            continue
        here = [one["sha256"] for one in files]
        there = [one.get("sha256") if isinstance(one, Mapping) else None for one in (said if isinstance(said, list) else [said])]
        missing = [one for one in there if one not in here]
        figures = "the files claimed" if not missing else f"{len(missing)} of {len(there)} are other files"
        book.add(Claim(f"reported {key}", not missing and len(here) == len(there), figures), key)


def _called(name: str) -> tuple[str, str]:
    """A function as MODULE:NAME, without the folders of the module, which differ from machine to machine."""
    place, _, function = name.rpartition(":")
    module = place.removesuffix(".py").replace("\\", "/").rpartition("/")[2]
    return module.rpartition(".")[2], function


def _short(sha256: str | None) -> str:
    return "none" if sha256 is None else f"{sha256[:12]}…"
