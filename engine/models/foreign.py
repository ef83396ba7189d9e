"""Imports weights that other projects published (``.pt``) into checkpoints of our own, by a table of names.

Nothing of a file is run (:mod:`engine.data.torch_files`). Every tensor of ours is found under the name the published
code gives it; where we store several layers as one, theirs are joined. What has no counterpart is told, and a file
that is another network than it claims is refused: by a name, a shape, or a constant such as its graph.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from engine.data.bodies import RawDataError
from engine.data.torch_files import load_torch
from engine.models.card import CheckpointError
from engine.models.checkpoint import build_encoder
from engine.models.foreign_names import FAMILIES, Family

# Where training programs keep the weights in what they save.
_WEIGHTS_UNDER = ("state_dict", "model_state_dict", "model", "net", "weights", "encoder")
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class ForeignWeights:
    """Tensors of a file by name, without the part of the names that only says where the encoder stood.

    ``prefix`` is that part; ``others`` are names that stand elsewhere in the file (other encoders, banks, heads).
    """

    tensors: dict[str, np.ndarray]
    prefix: str
    others: tuple[str, ...]
    family: Family


@dataclass
class Imported:
    """An encoder with the file's weights, and what became of every name.

    ``fresh``: tensors of ours the file does not have and evaluation does not need; ``ignored``: names of theirs known
    to carry nothing; ``unmapped``: names nobody knows.
    """

    encoder: nn.Module
    family: Family
    prefix: str
    args: dict[str, Any]
    used: int
    has_classifier: bool
    fresh: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    unmapped: list[str] = field(default_factory=list)
    others: tuple[str, ...] = ()


def read_foreign(path: Path, backbone: str = "auto", part: str | None = None) -> ForeignWeights:
    """Read a weights file and find the encoder in it.

    Parameters
    ----------
    backbone : str
        A name of :data:`~engine.models.foreign_names.FAMILIES`, or ``auto``: told by the names in the file.
    part : str, optional
        Which encoder, where the file holds several (``encoder_q``, ``encoder_q_motion``); default the query encoder.

    Raises
    ------
    CheckpointError
        The file can't be read safely, or holds no encoder of that kind, or several of which none was chosen.
    """
    try:
        saved = load_torch(path)
    except RawDataError as error:
        raise CheckpointError(str(error)) from error
    tensors = _tensors(saved, path)
    families = FAMILIES if backbone == "auto" else {backbone: FAMILIES[backbone]} if backbone in FAMILIES else {}
    if not families:
        raise CheckpointError(f"no published names are known for backbone {backbone!r}; known: {', '.join(FAMILIES)}")
    for family in families.values():
        prefixes = sorted(
            key.removesuffix(family.anchor)
            for key in tensors
            if key == family.anchor or key.endswith("." + family.anchor)
        )
        if prefixes:
            prefix = _choose(prefixes, part, path)
            inside = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            others = tuple(key for key in tensors if not key.startswith(prefix))
            return ForeignWeights(inside, prefix, others, family)
    known = "; ".join(f"{name}: {family.anchor}" for name, family in families.items())
    some = ", ".join(list(tensors)[:6])
    raise CheckpointError(f"{path}: holds no encoder that is known here (looked for {known}; the file has {some}, ...)")


def _tensors(saved: Any, path: Path) -> dict[str, np.ndarray]:
    """The dictionary of tensors in what was saved."""
    candidates = [saved]
    if isinstance(saved, dict):
        candidates += [saved[name] for name in _WEIGHTS_UNDER if name in saved]
        candidates += [value for value in saved.values() if isinstance(value, dict)]
    for candidate in candidates:
        if isinstance(candidate, dict):
            found = {k: v for k, v in candidate.items() if isinstance(k, str) and isinstance(v, np.ndarray)}
            if len(found) > 1:
                return found
    raise CheckpointError(f"{path}: holds no weights by name")


def _choose(prefixes: list[str], part: str | None, path: Path) -> str:
    if part is not None:
        kept = [prefix for prefix in prefixes if prefix.rstrip(".").split(".")[-1] == part]
        if not kept:
            names = ", ".join(prefix.rstrip(".").split(".")[-1] or "(the whole file)" for prefix in prefixes)
            raise CheckpointError(f"{path}: has no encoder {part!r}; it has {names}")
        return kept[0]
    # Momentum contrast saves a second, slower copy of each encoder: the query encoder is the one that is kept.
    kept = [prefix for prefix in prefixes if "encoder_k" not in prefix] or prefixes
    plain = [prefix for prefix in kept if prefix.rstrip(".").split(".")[-1] in ("", "module", "encoder_q")]
    if len(kept) == 1 or len(plain) == 1:
        return (kept if len(kept) == 1 else plain)[0]
    names = ", ".join(prefix.rstrip(".") or "(the whole file)" for prefix in kept)
    raise CheckpointError(f"{path}: holds several encoders ({names}); say which one with --part")


def import_encoder(
    found: ForeignWeights,
    classes: Sequence[str],
    layout: str,
    persons: int,
    args: Mapping[str, Any] | None = None,
    allow_unmapped: bool = False,
) -> Imported:
    """Build our encoder and fill it with the file's weights.

    Parameters
    ----------
    classes : sequence of str
        In the order of the file's classifier.
    layout, persons
        Of the clips the encoder was trained on.
    args : mapping, optional
        Arguments of the backbone the file can't tell (``order`` of InfoGCN, ``heads`` of GL-Transformer); sizes are
        read from the weights.
    allow_unmapped : bool
        Import although the file holds tensors that have no counterpart here.

    Raises
    ------
    CheckpointError
        A tensor is missing or has another shape, the classifier has another number of classes, a constant is another
        one, or (without ``allow_unmapped``) tensors have no counterpart.
    """
    family = found.family
    whole = family.sizes(found.tensors) | dict(args or {})
    try:
        encoder = build_encoder(family.backbone, len(classes), layout, persons, whole)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    result = Imported(encoder, family, found.prefix, whole, 0, True, others=found.others)
    left = set(found.tensors)
    state: dict[str, torch.Tensor] = {}
    missing: list[str] = []
    wrong: list[str] = []
    for key, ours in encoder.state_dict().items():
        names = family.names(key, found.tensors)
        if names is None:
            state[key] = ours
            (result.fresh if family.may_lack(key) else missing).append(key)
            continue
        left -= set(names)
        theirs = _joined([found.tensors[name] for name in names])
        if theirs.shape != tuple(ours.shape):
            theirs_shape = theirs.shape
            # A linear layer of ours that is a 1x1 convolution of theirs.
            if theirs.size != ours.numel() or [n for n in theirs_shape if n != 1] != [n for n in ours.shape if n != 1]:
                wrong.append(f"{names[0]} is {theirs_shape}, {key} wants {tuple(ours.shape)}")
                continue
        state[key] = torch.from_numpy(np.array(theirs)).to(ours.dtype).view(ours.shape)
        result.used += len(names)
    lacking = [key for key in missing if key.startswith("classifier.")]
    if lacking and len(lacking) == len(missing):
        result.has_classifier = False
        result.fresh += lacking
        missing = []
    rows = next((w for w in wrong if "classifier.weight" in w), None)
    if rows is not None:
        raise CheckpointError(f"the file knows another number of classes than the {len(classes)} given: {rows}")
    if wrong or missing:
        few = [*wrong, *(f"nothing for {key}" for key in missing)]
        rest = f" and {len(few) - 4} more" if len(few) > 4 else ""
        raise CheckpointError(f"these are no weights of {family.title} for this layout: {'; '.join(few[:4])}{rest}")
    encoder.load_state_dict(state)
    encoder.eval()
    _check_constants(found, encoder)
    result.ignored = sorted(name for name in left if family.ignores(name, result.has_classifier))
    result.unmapped = sorted(left - set(result.ignored))
    if result.unmapped and not allow_unmapped:
        few = result.unmapped
        raise CheckpointError(
            f"{len(few)} tensors of the file have no counterpart in {family.title} ({', '.join(few[:5])}"
            f"{', ...' if len(few) > 5 else ''}): it is another network; --allow-unmapped imports it all the same"
        )
    return result


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    if len(parts) == 1 or parts[0].ndim == 0:
        return parts[0]
    if len({part.shape[1:] for part in parts}) > 1:
        raise CheckpointError(f"layers that belong together have shapes {', '.join(str(p.shape) for p in parts)}")
    return np.concatenate(parts)


def _check_constants(found: ForeignWeights, encoder: nn.Module) -> None:
    """What the file keeps as a buffer and we compute must agree, or the same weights mean something else here."""
    for name, ours in found.family.constants(encoder):
        theirs = found.tensors.get(name)
        if theirs is None:
            continue
        expected = ours.detach().cpu().numpy()
        try:
            difference = float(np.abs(np.asarray(theirs, np.float64) - expected).max())
        except ValueError:
            difference = float("inf")
        if not difference <= _TOLERANCE:
            raise CheckpointError(
                f"{name} of the file is not what {found.family.title} computes here (they differ by {difference:.2g}): "
                "another joint order or graph"
            )


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def safe_name(text: str) -> str:
    """A folder name from any text."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._") or "imported"
