"""Names of tensors with and without what wrappers add.

DataParallel and AveragedModel write `module.` before every name. A LightningModule writes the name of its network's attribute before every
name, and adds names of its own. torch.compile writes `_orig_mod.` wherever it was applied.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TypeVar

from nncomplexity.words import listed

COMPILED = "_orig_mod"
_SAVED = "modules_to_save"
_ADAPTS = re.compile(rf"(lora|ia3|vera|hada|lokr|boft|oft|fourierft|vblora|randlora|adaption|bone|hra|ln_tuning)_\w+|{_SAVED}$")
"""The part before the adapter's own name in the names of tensors, in peft's layers."""
_WRAPPED = "base_model.model."
"""The prefix of peft's wrapper. A network with an adapter but without the wrapper has no such prefix."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Naming:
    """How the names of a checkpoint correspond to those of a network.

    Attributes:
        names: the network's name for each of the checkpoint's names, without those that are left out.
        prefix: the prefix that was removed from them.
        compiled: whether `_orig_mod.` was removed too.
        added: a prefix that was added to all of them.
        left_out: names of the checkpoint that lack the prefix. They are not used.
        adapter: the network's adapter to which the tensors belong; all other tensors then belong to the architecture. Empty without
            one.
    """

    names: Mapping[str, str]
    prefix: str = ""
    compiled: bool = False
    added: str = ""
    left_out: tuple[str, ...] = ()
    adapter: str = ""

    @property
    def taken(self) -> str:
        """The removed parts of names, for messages; empty if nothing was removed."""
        return " and ".join(repr(part) for part in (self.prefix, f"{COMPILED}." * self.compiled) if part)

    def of(self, tensors: Mapping[str, Value]) -> dict[str, Value]:
        """The tensors by the network's names."""
        return {self.names[name]: tensor for name, tensor in tensors.items() if name in self.names}

    def note(self, whose: str) -> str | None:
        """A sentence on how the names were changed to fit those of `whose`. None if they did not change."""
        if self.adapter:
            return f"used the names as those of the adapter {self.adapter!r} of {whose}; all other tensors are part of the architecture"
        if not self.taken:
            return None
        left_out = f", and left out names without it: {listed(self.left_out)}" if self.left_out else ""
        return f"removed {self.taken} from the names, so that they fit {whose}{left_out}"


def unchanged(given: Iterable[str]) -> Naming:
    """The names without a change."""
    return Naming({name: name for name in given})


def namings(given: Iterable[str], tensors: Sequence[Sequence[str]], *, whole: bool) -> list[Naming]:
    """The ways to make names fit: without a change if they fit, otherwise without one prefix and without `_orig_mod.` anywhere.

    Only the ways with the largest number of fitting names are returned. If there are several, it is not clear which one is right.

    Args:
        given: the names of a checkpoint.
        tensors: the names of each tensor of the network; a tied tensor needs only one of its names.
        whole: whether every tensor must be there, and no other name with the prefix. Otherwise one fitting name is enough.

    Returns:
        The ways in which the names fit; empty if they fit in no way.

    >>> (naming,) = namings(["n_averaged", "module.weight", "module.bias"], [["weight"], ["bias"]], whole=True)
    >>> naming.prefix, naming.left_out, naming.of({"module.bias": 3})
    ('module.', ('n_averaged',), {'bias': 3})
    """
    names = list(given)
    if _fits(set(names), tensors, whole):
        return [unchanged(names)]
    found: list[Naming] = []
    most = len(tensors) if whole else 1
    # The prefixes come with the most frequent first. After one that fits, only others with as many names are of interest.
    for prefix, count in _counted(names, tensors).most_common():
        if count < most:
            break
        naming = _without(prefix, names, tensors)
        if _fits(set(naming.names.values()), tensors, whole):
            found.append(naming)
            most = count
    return found


def adapter_naming(given: Iterable[str], tensors: Sequence[Sequence[str]]) -> Naming | None:
    """The network's names for the names in an adapter's file, as peft writes them.

    The network's names contain the adapter's own name, and those in the file don't. All tensors of the adapter must be there. The result is
    None if the names are not those of an adapter, or if several adapters fit.

    >>> network = [["base_model.model.fc.base_layer.weight"], ["base_model.model.fc.lora_A.default.weight"]]
    >>> naming = adapter_naming(["base_model.model.fc.lora_A.weight"], network)
    >>> naming.adapter, naming.names
    ('default', {'base_model.model.fc.lora_A.weight': 'base_model.model.fc.lora_A.default.weight'})
    """
    names = list(given)
    inside_of: dict[str, dict[str, str]] = {}
    for group in tensors:
        parts = group[0].split(".")
        for place in range(1, len(parts)):
            # peft saves an adapter's tensors without the adapter's name, and inserts the name when it loads the file.
            if _ADAPTS.match(parts[place - 1]):
                # The file's names don't have the part `modules_to_save` either.
                outside = [*parts[: place - (parts[place - 1] == _SAVED)], *parts[place + 1 :]]
                inside_of.setdefault(parts[place], {})[".".join(outside)] = group[0]
                break
    found = []
    for adapter, inside in inside_of.items():
        for prefix in ("", _WRAPPED):
            own = {name: inside[name.removeprefix(prefix)] for name in names if name.removeprefix(prefix) in inside}
            if names and len(own) == len(names) == len(inside):
                found.append(Naming(own, adapter=adapter))
                break
    return found[0] if len(found) == 1 else None


def unfit(naming: Naming, tensors: Sequence[Sequence[str]]) -> list[str]:
    """Phrases on the network's tensors that are missing, and on names that the network doesn't have. Empty if all names fit."""
    names, known = set(naming.names.values()), _known(tensors)
    missing = [group[0] for group in tensors if not names.intersection(group)]
    unexpected = [name for name in naming.names.values() if name not in known]
    return [f"{kind} {listed(found)}" for kind, found in (("missing", missing), ("unexpected", unexpected)) if found]


def unfitness(given: Collection[str], tensors: Sequence[Sequence[str]]) -> str:
    """Why the names of a checkpoint fit in no way or in several ways, and the way in which most of them fit.

    >>> unfitness(["weight"], [["bert.weight"], ["head.weight"]])
    "with 'bert.' before them 1 of its 1 names fit; missing head.weight"
    """
    if several := namings(given, tensors, whole=True):
        prefixes = listed(repr(one.prefix) for one in several)
        return f"its names fit with each of the prefixes {prefixes}; save the right network alone"
    naming = _nearest(list(given), tensors)
    count = f"{len(_known(tensors).intersection(naming.names.values()))} of its {len(given)} names fit"
    parts = [f"with {naming.added!r} before them {count}"] if naming.added else []
    parts += [f"without {naming.taken} {count}"] if naming.taken else []
    parts += (unfits := unfit(naming, tensors))
    if naming.added and not unfits:
        parts.append(f"let the function return only the part {naming.added.removesuffix('.')!r} of its module")
    elif not any(part.startswith("missing") for part in parts):
        parts.append("register them as buffers of the module, or save a checkpoint without them")
    return "; ".join(parts)


def _nearest(names: Sequence[str], tensors: Sequence[Sequence[str]]) -> Naming:
    """The way in which most names fit: without a prefix, with one, or without a change."""
    known, given = _known(tensors), set(names)
    off = _counted(names, tensors)
    on = Counter(prefix for group in tensors for name in group for prefix, rest in _splits(name) if prefix and rest in given)
    prefix, added = (max(counts, key=lambda one: counts[one], default="") for counts in (off, on))
    if max(off[prefix], on[added]) <= len(known & given):
        return unchanged(names)
    if off[prefix] >= on[added]:
        return _without(prefix, names, tensors)
    return Naming({name: added + name for name in names}, added=added)


def _known(tensors: Sequence[Sequence[str]]) -> set[str]:
    return {name for group in tensors for name in group}


def _fits(names: Set[str], tensors: Sequence[Sequence[str]], whole: bool) -> bool:
    known = _known(tensors)
    return names <= known and all(not names.isdisjoint(group) for group in tensors) if whole else not names.isdisjoint(known)


def _counted(names: Iterable[str], tensors: Sequence[Sequence[str]]) -> Counter[str]:
    """The number of the network's names that are found with each prefix."""
    wanted = {_without_compiled(name) for name in _known(tensors)}
    return Counter(prefix for name in _all_without_compiled(names).values() for prefix, rest in _splits(name) if rest in wanted)


def _without(prefix: str, names: Sequence[str], tensors: Sequence[Sequence[str]]) -> Naming:
    own = {_without_compiled(name): name for name in _known(tensors)}  # the module itself may be compiled
    short_names = _all_without_compiled(names)
    rests = {name: short.removeprefix(prefix) for name, short in short_names.items() if short.startswith(prefix)}
    return Naming(
        {name: own.get(rest, rest) for name, rest in rests.items()},
        prefix,
        compiled=any(short_names[name] != name for name in rests),
        left_out=tuple(name for name in names if name not in rests),
    )


def _all_without_compiled(names: Iterable[str]) -> dict[str, str]:
    """Names without what torch.compile wrote, unless two names would become equal."""
    short_names = {name: _without_compiled(name) for name in names}
    return short_names if len(set(short_names.values())) == len(short_names) else {name: name for name in short_names}


def _without_compiled(name: str) -> str:
    return ".".join(part for part in name.split(".") if part != COMPILED)


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """All ways to split a name after a dot: ("", "a.b"), ("a.", "b")."""
    start = 0
    while start >= 0:
        yield name[:start], name[start:]
        # After the last dot, `find` gives -1, and the loop ends.
        start = name.find(".", start) + 1 or -1
