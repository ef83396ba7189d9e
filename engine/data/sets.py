"""The datasets this program knows: how each is opened, its classes, its protocols, its counts, whom to ask for it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from engine.data.bodies import RawDataError, RawSource
from engine.data.cleaning import CLEANINGS
from engine.data.ntu_names import ntu_classes
from engine.data.readers.flat_npz import FLAT_SETS, flat_classes, open_flat
from engine.data.readers.ntu import open_ntu
from engine.data.readers.nw_ucla import nw_ucla_classes, open_nw_ucla
from engine.data.readers.pku_mmd import open_pku, pku_classes
from engine.data.readers.pku_texts import CUTTINGS
from engine.data.splits import (
    CLEAN_SUFFIX,
    FILE_SUFFIX,
    NTU60_SPLITS,
    NTU120_SPLITS,
    NW_UCLA_SPLITS,
    PKU_SPLITS,
    SplitFunction,
    alternate_subjects,
    by_values,
    every_fourth,
    from_file,
    odd_subjects,
    without_parts,
)
from engine.data.store import SequenceStore, StoreError
from engine.data.tables import class_names, table_rows

__all__ = [
    "DATASETS", "DatasetInfo", "RawDataError", "base_name", "dataset_info", "main_split", "split_indices", "splits_of",
]  # fmt: skip


@dataclass(frozen=True)
class DatasetInfo:
    """What is known about one dataset.

    Parameters
    ----------
    open : callable
        Path of the downloaded files -> :class:`RawSource`.
    several_bodies : bool
        Recordings may hold several bodies: they are kept raw and cleaned in a second step.
    cleaning, variants : str, tuple of str
        The default cleaning, and the others that are offered (names of :data:`engine.data.cleaning.CLEANINGS`).
    cuttings : tuple of str
        Rules by which untrimmed recordings may be cut (``open`` takes ``cutting``); the first is the default.
    sequences, frames : int or None
        Published counts of usable sequences and frames; None where nobody published them.
    split_counts : dict
        Published (train, test) sequences by split.
    request : str
        Where the data are to be had.
    page : str
        Address of the page that offers them and says on which terms.
    built_from : tuple of str
        Sets that this one is merged from (:mod:`engine.data.merge`); it has no files of its own.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    fps: float
    layout: str
    open: Callable[..., RawSource]
    splits: dict[str, SplitFunction]
    source: str
    request: str
    licence: str
    page: str = ""
    several_bodies: bool = False
    cleaning: str = ""
    variants: tuple[str, ...] = ()
    cuttings: tuple[str, ...] = ()
    sequences: int | None = None
    frames: int | None = None
    split_counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    built_from: tuple[str, ...] = ()


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _open_flat(name: str, path: Path) -> RawSource:
    """Open a flat set after making sure that its file numbers the classes as our table does."""
    source = open_flat(path, name)
    try:
        found = flat_classes(path, name)
    except RawDataError:
        # A file without class names: the labels must speak for themselves.
        return source
    if list(map(_letters, found)) != list(map(_letters, class_names(f"{name}_classes.csv"))):
        raise RawDataError(f"{path}: its class names are not those of {name}, or in another order")
    return source


def _no_files(path: Path) -> RawSource:
    raise RawDataError(f"{path}: everyday has no files of its own; main.py data merge everyday builds it")


def _everyday() -> DatasetInfo:
    rows = table_rows("everyday_classes.csv")
    sets = tuple(dict.fromkeys(row["set"] for row in rows))
    return DatasetInfo(
        "everyday", "Everyday actions",
        tuple(dict.fromkeys(row["class"] for row in rows if row["class"])), 30.0, "ntu25", _no_files,
        {split: partial(from_file, split + FILE_SUFFIX) for split in ("xsub", "tune", "pretrain")},
        source="nothing to download: it is merged from prepared sets", built_from=sets,
        request=f"prepare as many of {', '.join(sets)} as you can get, then: main.py data merge everyday",
        licence="that of the sets it was merged from, for most of them research use only",
    )  # fmt: skip


_KEEP_RAW = "raw"
_VARIANTS = (*(name for name in CLEANINGS if name not in ("clean", _KEEP_RAW)), _KEEP_RAW)

_ROSE = (
    "request access at the ROSE Lab, https://rose1.ntu.edu.sg/dataset/actionRecognition, and download the skeletons "
    "({}); zips need not be unpacked"
)
_ROSE_PAGE = "https://rose1.ntu.edu.sg/dataset/actionRecognition/"
_PKU_PAGE = "https://www.icst.pku.edu.cn/struct/Projects/PKUMMD.html"
_NTU_LICENCE = "academic, non-commercial research; no redistribution; cite the papers of 2016 (CVPR) and 2020 (TPAMI)"
_PKU = (
    "ask for the link on the project page of PKU-MMD, download skeletons, labels and split lists of {}, and unpack the "
    ".7z archives into one folder"
)


def _ntu(name: str, title: str, **values: object) -> DatasetInfo:
    return DatasetInfo(
        name, title, ntu_classes(name), 30.0, "ntu25", partial(open_ntu, dataset=name),
        licence=_NTU_LICENCE, page=_ROSE_PAGE, several_bodies=True, cleaning="clean", variants=_VARIANTS, **values,  # type: ignore[arg-type]
    )  # fmt: skip


def _pku(part: int, title: str, **values: object) -> DatasetInfo:
    return DatasetInfo(
        f"pku_mmd_{part}", title, pku_classes(), 30.0, "ntu25", partial(open_pku, part=part), PKU_SPLITS,
        several_bodies=True, cleaning="clean", variants=_VARIANTS, cuttings=CUTTINGS,
        licence="research use; no formal licence comes with the data", page=_PKU_PAGE, **values,  # type: ignore[arg-type]
    )  # fmt: skip


def _flat(name: str, title: str, **values: object) -> DatasetInfo:
    facts = FLAT_SETS[name]
    return DatasetInfo(
        name, title, class_names(f"{name}_classes.csv"), facts.fps, facts.layout, partial(_open_flat, name), **values  # type: ignore[arg-type]
    )  # fmt: skip


_ALL = (
    _ntu(
        "ntu60", "NTU RGB+D", splits=NTU60_SPLITS, sequences=56_578,
        split_counts={"xsub": (40_091, 16_487), "xview": (37_646, 18_932)},
        source="nturgbd_skeletons_s001_to_s017.zip", request=_ROSE.format("nturgbd_skeletons_s001_to_s017.zip, 5.8 GB"),
    ),
    _ntu(
        "ntu120", "NTU RGB+D 120", splits=NTU120_SPLITS, sequences=113_945,
        split_counts={"xsub": (63_026, 50_919), "xset": (54_468, 59_477)},
        source="nturgbd_skeletons_s001_to_s017.zip and nturgbd_skeletons_s018_to_s032.zip in one folder",
        request=_ROSE.format("both zips, 5.8 and 4.5 GB, into one folder"),
    ),
    _pku(
        1, "PKU-MMD, part I", sequences=21_545, split_counts={"xsub": (18_841, 2_704), "xview": (14_357, 7_188)},
        source="a folder with skeletons, labels, cross-subject and cross-view lists", request=_PKU.format("part I"),
    ),
    _pku(
        2, "PKU-MMD, part II", sequences=6_945, split_counts={"xsub": (5_332, 1_613)},
        source="a folder with skeletons, labels, cross-subject and cross-view lists", request=_PKU.format("part II"),
    ),
    DatasetInfo(
        "nw_ucla", "NW-UCLA", nw_ucla_classes(), 30.0, "kinect20", open_nw_ucla,
        NW_UCLA_SPLITS, sequences=1_484, frames=58_534,
        split_counts={
            "xview": (1_020, 464), "xview_clean": (1_020, 369),
            "train13_test2": (980, 504), "train23_test1": (968, 516),
        },
        source="all_sqe.zip (Multiview Action 3D), as distributed with the public loaders of the CTR-GCN family",
        request="all_sqe.zip is linked from the public code of CTR-GCN and its successors",
        licence="research use",
        page="https://github.com/Uason-Chen/CTR-GCN",
    ),
    _flat(
        "utd_mhad", "UTD-MHAD", splits={"xsub": odd_subjects}, sequences=861,
        split_counts={"xsub": (431, 430)},
        source="Kinect v1 skeletons of the Multimodal Human Action Dataset of Dallas, as one utd_mhad.npz",
        request="the authors' page at the University of Texas at Dallas",
        licence="placed in the public domain by its authors", page="https://personal.utdallas.edu/~kehtar/UTD-MHAD.html",
    ),
    _flat(
        "kinder_gator", "Kinder-Gator",
        splits={"xsub": partial(alternate_subjects, within="adult"), "xage": partial(by_values, "adult", (1,))},
        sequences=1_159,
        source="Kinect v1 skeletons of adults and children, University of Florida, as one kinder_gator.npz",
        request="the authors' page at the University of Florida", licence="research use",
        page="https://jainlab.cise.ufl.edu/publications.html#Kinder-Gator",
    ),
    _flat(
        "msr_action3d", "MSR Action3D", splits={"xsub": odd_subjects}, sequences=566,
        source="skeletons of Microsoft Research, as one msr_action3d.npz",
        request="the page of its author Wanqing Li", licence="research use",
        page="https://sites.google.com/view/wanqingli/data-sets/msr-action3d",
    ),
    _flat(
        "utkinect", "UTKinect-Action3D", splits={"xsub": odd_subjects}, sequences=199,
        source="skeletons of the University of Texas at Austin, as one utkinect.npz",
        request="the authors' page at the University of Texas at Austin", licence="research use",
        page="https://cvrc.ece.utexas.edu/KinectDatasets/HOJ3D.html",
    ),
    _flat(
        "florence3d", "Florence 3D", splits={"xsub": odd_subjects}, sequences=215,
        source="skeletons of the University of Florence, as one florence3d.npz",
        request="the page of the Media Integration and Communication Center, Florence", licence="research use",
        page="https://www.micc.unifi.it/resources/datasets/florence-3d-actions-dataset/",
    ),
    _everyday(),
)  # fmt: skip
DATASETS: dict[str, DatasetInfo] = {info.name: info for info in _ALL}


def base_name(name: str) -> str:
    """The dataset of a store: without cleaning variant and without the mark of filmed sets."""
    return name.partition(".")[0].removesuffix("_mediapipe")


def dataset_info(name: str) -> DatasetInfo:
    """Look the dataset of a store up; raises ``KeyError`` that lists the known ones."""
    try:
        return DATASETS[base_name(name)]
    except KeyError:
        raise KeyError(f"unknown dataset {name!r}; known: {', '.join(DATASETS)}") from None


def splits_of(store: SequenceStore) -> dict[str, SplitFunction]:
    """The splits a store can give, by name.

    Those of its dataset; for stores of other data (own recordings) ``random``, and ``xsub`` where subjects are known. A
    column ``NAME_train`` (membership that came with the files) is a split of its own and takes the place of a rule.
    """
    base = base_name(store.name)
    splits: dict[str, SplitFunction]
    if base in DATASETS:
        splits = dict(DATASETS[base].splits)
    else:
        splits = {"random": every_fourth}
        if "subject" in store.meta_keys:
            splits["xsub"] = odd_subjects
    for key in store.meta_keys:
        if key.endswith(FILE_SUFFIX):
            splits[key.removesuffix(FILE_SUFFIX)] = partial(from_file, key)
    return splits


def main_split(store: SequenceStore) -> str:
    """The split that is meant when none is named: by subjects where that came with the files, else the set's first."""
    return "xsub" if f"xsub{FILE_SUFFIX}" in store.meta_keys else next(iter(splits_of(store)))


def split_indices(store: SequenceStore, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Training and test positions of a split; raises :class:`StoreError` that lists the known splits.

    ``NAME_clean`` of any split leaves out test sequences that share half of their frames with a training sequence.
    """
    splits = splits_of(store)
    whole = split.removesuffix(CLEAN_SUFFIX)
    if split not in splits and whole in splits:
        return without_parts(splits[whole], store)
    if split not in splits:
        raise StoreError(f"{store.name} has no split {split!r}; known: {', '.join(splits)}")
    return splits[split](store)
