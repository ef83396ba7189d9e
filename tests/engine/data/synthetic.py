"""Archives made up in the exact published formats, with the published names and counts, for tests of every reader.

Nothing here comes from a recording: bodies are a swaying stick figure. Numbers are written as the sensor's program
writes them (seven significant digits, CR LF in NTU files; six decimals in PKU-MMD).
"""

from __future__ import annotations

import io
import itertools
import json
import zipfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.data.ntu_names import LIST_A, LIST_B, NtuName, missing_names, parse_name, two_person_labels

# NTU-25 at rest, metres, relative to SpineBase, facing the sensor (right side at larger x).
REST = np.array(
    [
        (0, 0, 0), (0, 0.27, 0), (0, 0.54, 0), (0, 0.66, 0),
        (-0.17, 0.44, 0), (-0.2, 0.21, 0), (-0.22, 0, 0), (-0.22, -0.06, 0),
        (0.17, 0.44, 0), (0.2, 0.21, 0), (0.22, 0, 0), (0.22, -0.06, 0),
        (-0.07, -0.01, 0), (-0.08, -0.34, 0), (-0.08, -0.68, 0), (-0.08, -0.72, -0.09),
        (0.07, -0.01, 0), (0.08, -0.34, 0), (0.08, -0.68, 0), (0.08, -0.72, -0.09),
        (0, 0.47, 0), (-0.22, -0.11, 0), (-0.2, -0.08, -0.03), (0.22, -0.11, 0), (0.2, -0.08, -0.03),
    ]
)  # fmt: skip
FIRST_ID = 72057594037927937


def moving_body(frames: int, seed: int = 0, at: tuple[float, float, float] = (0.0, 0.0, 3.0)) -> np.ndarray:
    """float64 ``(frames, 25, 3)``: the figure at ``at``, its joints swaying by a few centimetres."""
    generator = np.random.default_rng(seed)
    sway = generator.normal(0, 0.04, (25, 3))
    phase = np.arange(frames)[:, None, None] * 0.3 + generator.uniform(0, 6, (1, 25, 3))
    return REST + np.array(at) + sway * np.sin(phase) + generator.normal(0, 0.002, (frames, 25, 3))


class Body(NamedTuple):
    """One body in one frame of a ``.skeleton`` file."""

    id: int
    xyz: np.ndarray
    states: Sequence[int] = (2,) * 25


def number(value: float) -> str:
    """A float as in the files: seven significant digits, exponent form when small."""
    return f"{value:.7g}".replace("e", "E")


def body_lines(body: Body) -> list[str]:
    """The 27 lines of one body."""
    lines = [f"{body.id} 0 1 1 1 1 0 -0.1159187 0.1413209 2", str(len(body.xyz))]
    for (x, y, z), state in zip(body.xyz, body.states, strict=True):
        depth = max(z, 0.5) if np.isfinite(z) else 1.0
        pixels = (256 + 366 * x / depth, 208 - 366 * y / depth, 976 + 1056 * x / depth, 567 - 1056 * y / depth)
        rest = ["0.1705678", "0.04232755", "0.9718983", "-0.1566168", str(state)]
        lines.append(" ".join([*(number(v) for v in (x, y, z, *pixels)), *rest]))
    return lines


def skeleton_text(frames: Sequence[Sequence[Body]], newline: str = "\r\n") -> bytes:
    """A ``.skeleton`` file of any bodies per frame."""
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for body in bodies:
            lines += body_lines(body)
    return (newline.join(lines) + newline).encode()


def performance(frames: int, persons: int = 1, seed: int = 0, ghost: bool = False, empty: int = 0) -> bytes:
    """A ``.skeleton`` file of one or two actors; a tracked piece of furniture, empty first frames when asked."""
    xyz = [moving_body(frames, seed * 3 + m, (1.2 * m - 0.6 * (persons - 1), 0.0, 3.0)) for m in range(persons)]
    if ghost:
        xyz.append(np.broadcast_to(REST * (2.0, 0.2, 1.0) + (1.5, -0.5, 2.5), (frames, 25, 3)))
    listed = [
        [] if t < empty else [Body(FIRST_ID + seed * 8 + m, joints[t]) for m, joints in enumerate(xyz)]
        for t in range(frames)
    ]
    return skeleton_text(listed)


# Counts of (setup, performer) pairs that follow from the published numbers of files (datasets.md, 1.1 and 1.5): every
# pair is 3 cameras x 2 replications x 60 actions. Which pairs is made up, but contains all of the damaged names.
_HALVES = (
    # setups, performers, pairs that train in cross-subject, that test, pairs in even setups
    (range(1, 18), tuple(range(1, 41)), LIST_A, 112, 46, 72),
    (range(18, 33), (6, 8, 11, *range(41, 107)), LIST_B, 64, 96, 80),
)


@cache
def ntu_pairs(dataset: str) -> tuple[tuple[int, int], ...]:
    """(setup, performer) pairs of an archive as large as the real one: 158 for NTU-60, 318 for NTU-120."""
    damaged = {(name.setup, name.performer) for name in map(parse_name, missing_names("ntu120"))}
    pairs: list[tuple[int, int]] = []
    for setups, performers, trains, train, test, even in _HALVES[: 1 if dataset == "ntu60" else 2]:
        left = {(True, True): 0, (True, False): 0, (False, True): 0, (False, False): 0}
        # Share the even setups between training and test performers in proportion.
        left[True, True] = round(even * train / (train + test))
        left[True, False] = train - left[True, True]
        left[False, True] = even - left[True, True]
        left[False, False] = test - left[False, True]
        chosen: set[tuple[int, int]] = set()

        def take(setup: int, performer: int, trains=trains, left=left, chosen=chosen) -> bool:
            quota = (performer in trains, setup % 2 == 0)
            if (setup, performer) in chosen or not left[quota]:
                return False
            left[quota] -= 1
            chosen.add((setup, performer))
            return True

        # The damaged names first, then everybody once, then in turn.
        for setup, performer in sorted(damaged):
            if setup in setups:
                take(setup, performer)
        for i, performer in enumerate(performers):
            if all(performer != there for _, there in chosen):
                any(take(setups[(i + k) % len(setups)], performer) for k in range(len(setups)))
        for k, setup in itertools.product(range(len(performers)), setups):
            take(setup, performers[(7 * setup + k) % len(performers)])
        assert not any(left.values()), left
        pairs += sorted(chosen)
    return tuple(pairs)


def ntu_names(
    dataset: str,
    performers: Collection[int] | None = None,
    cameras: Collection[int] = (1, 2, 3),
    actions: Collection[int] | None = None,
    replications: Collection[int] = (1, 2),
    damaged: bool = True,
) -> list[str]:
    """Sorted names of an archive of the published size, or of a chosen share of it.

    Without limits NTU-60 has 56,880 names and NTU-120 114,480, of which 302 and 535 are in the missing list; every
    split has the published number of files.
    """
    names = []
    for setup, performer in ntu_pairs(dataset):
        if performers is not None and performer not in performers:
            continue
        first = 1 if setup <= 17 else 61
        own = [a for a in range(first, first + 60) if actions is None or a in actions]
        names += [str(NtuName(setup, c, performer, r, a)) for c, r, a in itertools.product(cameras, replications, own)]
    return sorted(names if damaged else set(names) - missing_names(dataset))


@cache
def _texts(frames: int, persons: int, variants: int) -> tuple[bytes, ...]:
    return tuple(performance(frames, persons, seed) for seed in range(variants))


def ntu_files(names: Iterable[str], frames: int = 12, variants: int = 4) -> Iterator[tuple[str, bytes]]:
    """File names and texts for the names; two actors in two-person classes. ``variants`` texts take turns."""
    pairs = two_person_labels("ntu120")
    for i, name in enumerate(names):
        yield f"{name}.skeleton", _texts(frames, 1 + (parse_name(name).label in pairs), variants)[i % variants]


def write_folder(folder: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    """Write files, with the folders in their names, below ``folder``."""
    for name, data in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def write_zip(path: Path, files: Iterable[tuple[str, bytes]], top: str = "", level: int = 1) -> Path:
    """Write a deflated zip; ``top`` is put in front of every name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        for name, data in files:
            archive.writestr(top + name, data)
    return path


def write_ntu_zips(folder: Path, names: Iterable[str], frames: int = 12, variants: int = 4) -> list[Path]:
    """The archives as published: the first with a top folder of its own, the extension without."""
    names = list(names)
    first = [name for name in names if parse_name(name).first_release]
    second = [name for name in names if not parse_name(name).first_release]
    written = []
    if first:
        path = folder / "nturgbd_skeletons_s001_to_s017.zip"
        written.append(write_zip(path, ntu_files(first, frames, variants), "nturgb+d_skeletons/"))
    if second:
        path = folder / "nturgbd_skeletons_s018_to_s032.zip"
        written.append(write_zip(path, ntu_files(second, frames, variants)))
    return written


# PKU-MMD ---------------------------------------------------------------------------------------------------------

PKU_ABSENT = {
    1: ("0060-R",),  # which view is absent is not published (not M); any will do
    2: ("A05N04-M", "A07N12-M", "A08N12-M", "A14N12-M", "A20N01-M"),
}
PKU_LACKING_CLASSES = (12, 14, 16, 18, 21, 24, 26, 27, 29, 38)


def pku_stems(part: int) -> list[str]:
    """Names of all videos of a part: 1,076 or 1,009."""
    if part == 1:
        numbers = [n for n in range(2, 365) if not 247 <= n <= 250]
        stems = [f"{n:04d}-{v}" for n in numbers for v in "LMR"]
    else:
        stems = [f"A{a:02d}N{n:02d}-{v}" for a in range(1, 27) for n in range(1, 14) for v in "LMR"]
    return [stem for stem in stems if stem not in PKU_ABSENT[part]]


def pku_xsub_test(stem: str) -> bool:
    """Whether a video is in the cross-subject test part."""
    return stem[4:6] in ("02", "03", "07") if stem[0] == "A" else 291 <= int(stem[:4]) <= 334


def pku_rows(frames: int, persons: Sequence[bool] = (True, False), seed: int = 0, lead: str = "") -> bytes:
    """An untrimmed skeleton text; absent slots are zeros, ``lead`` begins every line."""
    slots = [
        moving_body(frames, seed * 2 + m, (0.8 * m, 0.0, 3.0)) if there else np.zeros((frames, 25, 3))
        for m, there in enumerate(persons)
    ]
    rows = np.concatenate([slot.reshape(frames, 75) for slot in slots], 1)
    return "".join(lead + " ".join(f"{v:.6f}" for v in row) + "\n" for row in rows).encode()


def pku_labels(frames: int, part: int, seed: int = 0, count: int = 3) -> list[tuple[int, int, int, int]]:
    """Lines ``label, start, end, confidence``: equal parts of the video, classes drawn."""
    lacking = PKU_LACKING_CLASSES if part == 2 else ()
    known = [label for label in range(1, 52) if label not in lacking]
    drawn = np.random.default_rng(seed).choice(known, count)
    step = frames // count
    return [(int(label), i * step, (i + 1) * step - 1, 2) for i, label in enumerate(drawn)]


def pku_label_text(labels: Iterable[Sequence[int]]) -> bytes:
    return "".join(",".join(map(str, line)) + "\n" for line in labels).encode()


def pku_split_text(train: Sequence[str], test: Sequence[str], trailing_comma: bool = True) -> bytes:
    """The four lines of a split file."""
    end = ", " if trailing_comma else ""
    lists = ["Training videos:", ", ".join(train) + end, "Validation videos:", ", ".join(test) + end]
    return ("\n".join(lists) + "\n").encode()


def pku_split_files(part: int, rearranged: bool = False) -> Iterator[tuple[str, bytes]]:
    """Cross-subject and cross-view files that list all videos of the part."""
    stems = pku_stems(part)
    names = ("cross_subject.txt", "cross_view.txt") if rearranged else ("cross-subject.txt", "cross-view.txt")
    if part == 2:
        names = ("cross_subject_v2.txt", "cross_view_v2.txt")
    test = [stem for stem in stems if pku_xsub_test(stem)]
    yield names[0], pku_split_text([s for s in stems if not pku_xsub_test(s)], test)
    yield names[1], pku_split_text([s for s in stems if s[-1] != "M"], [s for s in stems if s[-1] == "M"])


def write_pku(
    root: Path, part: int, stems: Sequence[str], frames: int = 30, rearranged: bool = False, clips: int = 3
) -> Path:
    """Skeletons, labels and split files of some videos, as the archives unpack or in the ``v1``, ``v2`` layout."""
    if rearranged:
        skeleton, label, top = f"v{part}/skeleton", f"v{part}/label", f"v{part}/"
    elif part == 1:
        skeleton, label, top = "PKU_Skeleton_Renew", "Train_Label_PKU_final", ""
    else:
        skeleton, label, top = "Skeleton_v2", "Label_PKUMMD_v2", ""
    for i, stem in enumerate(stems):
        labels = pku_labels(frames, part, i, clips)
        rows = pku_rows(frames, (True, i % 3 == 0), i, " " if part == 2 else "")
        write_folder(root, [(f"{skeleton}/{stem}.txt", rows), (f"{label}/{stem}.txt", pku_label_text(labels))])
    write_folder(root, [(top + name, data) for name, data in pku_split_files(part, rearranged)])
    return root


def reduced_clip(xyz: np.ndarray) -> bytes:
    """The reduced ``.skeleton`` text of AimCLR and HiCLR from ``(T, bodies, 25, 3)``."""
    lines = [str(len(xyz))]
    for frame in xyz:
        lines += [str(len(frame)), "0 0 0 0 0 0 0 0 0 0", "25"]
        lines += [" ".join(f"{v:.6f}" for v in joint) for body in frame for joint in body]
    return ("\n".join(lines) + "\n").encode()


# NW-UCLA ---------------------------------------------------------------------------------------------------------

NW_UCLA_CODES = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)


def nw_ucla_file(name: str, frames: int = 5, seed: int = 0) -> tuple[str, bytes]:
    """One JSON file with 20 joints; its label follows from the action in the name."""
    xyz = moving_body(frames, seed)[:, :20].round(6).tolist()
    label = NW_UCLA_CODES.index(int(name[1:3])) + 1
    return f"{name}.json", json.dumps({"file_name": name, "skeletons": xyz, "label": label}).encode()


def nw_ucla_names(subjects: Iterable[int] = (1, 2), episodes: Iterable[int] = (0, 1)) -> list[str]:
    """Names of all ten actions before all three cameras."""
    return [
        f"a{a:02d}_s{s:02d}_e{e:02d}_v{v:02d}"
        for a, s, e, v in itertools.product(NW_UCLA_CODES, subjects, episodes, (1, 2, 3))
    ]


def write_nw_ucla(path: Path, names: Iterable[str], frames: int = 5) -> Path:
    """``all_sqe.zip`` as distributed."""
    return write_zip(path, (nw_ucla_file(name, frames, i) for i, name in enumerate(names)), "all_sqe/")


# Flat sets -------------------------------------------------------------------------------------------------------


def flat_npz(sequences: int = 6, joints: int = 20, classes: int = 3, frames: int = 8) -> dict[str, np.ndarray]:
    """Arrays of a flat set; save with ``np.savez``."""
    lengths = frames + np.arange(sequences) % 3
    xyz = [moving_body(int(length), i)[:, :joints] for i, length in enumerate(lengths)]
    return {
        "xyz": np.concatenate(xyz).astype(np.float32),
        "start": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        "label": (np.arange(sequences) % classes).astype(np.int16),
        "classes": np.array([f"class {i}" for i in range(classes)]),
        "subject": np.arange(sequences) % 4 + 1,
        "name": np.array([f"clip_{i:02d}" for i in range(sequences)]),
    }


def npz_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()
