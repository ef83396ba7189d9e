"""``teach``: packs of own actions and their takes; the window's Teach panel does the same."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from engine.cli import CommandError, UsageError
from engine.cli.progress import Style, say, stop_with_input
from engine.teach.pack import ClassPack, PackError, find_pack, find_packs, new_pack_folder, pack_folder

if TYPE_CHECKING:
    from engine.teach.takes import Take

Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff]
# What "teach add" uses when no pack is named.
DEFAULT_PACK = "my actions"


class TeachProgress:
    """Progress as lines of JSON for another program, or as one changing line on a terminal."""

    def __init__(self, style: Style) -> None:
        self.style = style
        if style == "json":
            stop_with_input()

    def __call__(self, what: str, done: int, total: int) -> None:
        if self.style == "json":
            say(what=what, done=done, total=total, damaged=0)
        elif sys.stderr.isatty():
            end = "\n" if done >= total else ""
            print(f"\r{what}: {done}/{total}   ", end=end, file=sys.stderr, flush=True)


def print_json(value: object) -> None:
    print(json_module.dumps(value, indent=1, ensure_ascii=False))


def open_pack(name: str) -> ClassPack:
    pack = ClassPack.open(find_pack(name))
    for problem in pack.problems:
        print(f"left out: {problem}", file=sys.stderr)
    return pack


def _take_report(take: Take) -> dict[str, Any]:
    return {
        "action": take.action, "number": take.number, "sign": take.sign, "seconds": round(take.seconds, 3),
        "start": round(take.start, 3), "end": round(take.end, 3), "frames": len(take.sequence),
        "source": take.source, "recorded": take.recorded, "file": str(take.path),
    }  # fmt: skip


def _pack_report(pack: ClassPack, takes: bool = False) -> dict[str, Any]:
    actions = []
    for action in pack.actions:
        entry: dict[str, Any] = {
            "name": action, "takes": len(pack.takes(action)), "counter_examples": len(pack.takes(action, -1))
        }  # fmt: skip
        if takes:
            entry["list"] = [_take_report(take) for take in pack.takes(action, None)]
        actions.append(entry)
    return {
        "name": pack.name, "folder": str(pack.folder), "checkpoint": pack.info.checkpoint, "actions": actions,
        "problems": pack.problems,
    }  # fmt: skip


def new(name: tyro.conf.Positional[str], json: Flag = False) -> int:
    """Make an empty pack of actions.

    Not needed for a first one: "teach add" makes the pack "my actions" by itself.

    Args:
        name: What to call it; its folder in the user's packs gets a name made of this.
        json: Print what was made as JSON.
    """
    pack = ClassPack.create(new_pack_folder(name), name)
    print_json(_pack_report(pack)) if json else print(f"made {pack.name}: {pack.folder}")
    return 0


def add(
    action: tyro.conf.Positional[str],
    videos: tyro.conf.Positional[tuple[Path, ...]],
    pack: str = DEFAULT_PACK,
    split: Flag = False,
    wrong: Flag = False,
    whole: Flag = False,
    mirrored: Flag = False,
    pose: Literal["lite", "full", "heavy"] = "full",
    json: Flag = False,
    progress: Style = "text",
) -> int:
    """Teach an action from videos of it: one take each, trimmed to the movement.

    Three to five takes of one person are a good start; record them as the action will be seen later. Then
    "recognize SOURCE --pack NAME" names it, and "teach check" says what it is mixed up with.

    Examples: "teach add salute one.mp4 two.mp4", "teach add salute --split five_in_a_row.mp4",
    "teach add wave --wrong scratching.mp4" (that was not a wave).

    Args:
        action: What to call the action. The name of one the encoder knows adds to that one.
        videos: Video files, image folders, landmark traces (.jsonl, .npz) or folders of videos.
        pack: Pack to add to; made when it is not there.
        split: A video holds several performances with rests of a second or more between them: one take each.
        wrong: The videos show what was wrongly taken for the action.
        whole: Keep the whole video instead of trimming it to the movement.
        mirrored: The pictures are mirrored (selfie view).
        pose: Pose model.
        json: Print the takes as JSON.
        progress: json writes one line of JSON per step to stderr, and stops when standard input ends.
    """
    from engine.live.chain import PoseOptions, PoseStage
    from engine.live.errors import LiveError
    from engine.teach.recording import movements, sequence_from_video, trim

    if split and whole:
        raise UsageError("--split and --whole contradict each other")
    files = _videos(videos)
    tell = TeachProgress(progress)
    try:
        folder = find_pack(pack)
    except PackError:
        opened = ClassPack.create(new_pack_folder(pack), pack)
    else:
        opened = ClassPack.open(folder)
    stage = PoseStage(PoseOptions(variant=pose, num_poses=1))
    takes, failed = [], []
    try:
        for done, video in enumerate(files):
            tell("reading videos", done, len(files))
            try:
                sequence = sequence_from_video(video, mirrored=mirrored, stage=stage)
                first, last = float(sequence.times[0]), float(sequence.times[-1])
                parts = movements(sequence) if split else [(first, last) if whole else trim(sequence)]
                if not parts:
                    raise PackError(f"{video}: no movement in it")
                for start, end in parts:
                    takes.append(opened.add_take(action, sequence, start, end, -1 if wrong else 1, str(video)))
            except LiveError as error:
                failed.append(str(error))
                print(f"left out: {error}", file=sys.stderr)
    finally:
        stage.close()
    tell("reading videos", len(files), len(files))
    if not takes:
        raise CommandError(failed[0] if len(failed) == 1 else f"no take in any of the {len(files)} videos")
    if json:
        print_json({"pack": opened.name, "takes": [_take_report(take) for take in takes], "left_out": failed})
        return 0
    for take in takes:
        print(f"take {take.number} of {take.action}: {take.seconds:.1f} s of {take.source}")
    print(f"next: main.py recognize SOURCE --pack {opened.folder.name}")
    return 0


def _videos(paths: tuple[Path, ...]) -> list[Path]:
    """The files named, and those in folders that hold neither images nor a recording."""
    from engine.live.source_files import images_in
    from engine.live.trace import TRACE_FILE

    if not paths:
        raise UsageError("name at least one video of the action")
    found: list[Path] = []
    for path in paths:
        if path.is_dir() and not (path / TRACE_FILE).is_file() and not images_in(path):
            inside = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
            if not inside:
                raise CommandError(f"{path} is empty")
            found += inside
        else:
            found.append(path)
    return found


def list_(json: Flag = False) -> int:
    """List the packs and their actions.

    Args:
        json: Print them as JSON.
    """
    packs, broken = [], []
    for folder in find_packs():
        try:
            packs.append(ClassPack.open(folder))
        except PackError as error:
            broken.append(str(error))
    if json:
        print_json({"packs": [_pack_report(pack) for pack in packs], "problems": broken})
        return 0
    for pack in packs:
        told = ", ".join(f"{action} ({len(pack.takes(action))})" for action in pack.actions) or "no actions yet"
        print(f"{pack.folder.name:<24} {pack.name}: {told}")
    for problem in broken:
        print(f"damaged: {problem}")
    if not packs and not broken:
        print("no packs yet; teach an action: main.py teach add NAME VIDEO...")
    return 0


def show(pack: tyro.conf.Positional[str] = DEFAULT_PACK, json: Flag = False) -> int:
    """Show the takes of a pack: lengths, trims, where they come from, and what could not be read.

    Args:
        pack: Name or folder of a pack.
        json: Print it as JSON.
    """
    opened = ClassPack.open(find_pack(pack))
    if json:
        print_json(_pack_report(opened, takes=True))
        return 0
    print(f"{opened.name}: {opened.folder}")
    for action in opened.actions:
        print(action)
        for take in opened.takes(action, None):
            kind = "" if take.sign > 0 else "  NOT this action"
            print(f"  {take.number:>4}  {take.start:6.2f} - {take.end:6.2f} s  {take.source}{kind}")
    for problem in opened.problems:
        print(f"left out: {problem}")
    return 0


def remove(
    action: tyro.conf.Positional[str], take: tuple[int, ...] = (), pack: str = DEFAULT_PACK, json: Flag = False
) -> int:
    """Remove an action, or single takes of it; the files are kept in the pack's .removed folder for a day.

    Args:
        action: Name of the action.
        take: Numbers of its takes ("teach show"); default the whole action.
        pack: Name or folder of the pack.
        json: Print what is left as JSON.
    """
    opened, numbers = open_pack(pack), dict.fromkeys(take)  # each once
    if numbers:
        there = {t.number: t for t in opened.takes(action, None)}
        if lacking := [n for n in numbers if n not in there]:
            known = ", ".join(map(str, sorted(there))) or "none"
            raise CommandError(f"{action} has no take {lacking[0]}; it has {known}")
        for number in numbers:
            opened.remove_take(there[number])
    else:
        opened.remove_action(action)
    what = f"{len(numbers)} take{'s' if len(numbers) != 1 else ''} of {action}" if numbers else action
    print_json(_pack_report(opened)) if json else print(f"removed {what} from {opened.name}")
    return 0


def pack(pack: tyro.conf.Positional[str], file: tyro.conf.Positional[Path]) -> int:
    """Write a pack as one .zip to give away: names and joints, no pictures.

    Args:
        pack: Name or folder of the pack.
        file: The .zip to write.
    """
    from engine.teach.share import write_zip

    out = write_zip(open_pack(pack), file)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")
    return 0


def load(file: tyro.conf.Positional[Path], name: str | None = None, json: Flag = False) -> int:
    """Unpack a .zip somebody gave you into the user's packs; nothing in it is run.

    Args:
        file: The .zip.
        name: Folder to give it; default made of the file's name.
        json: Print the pack as JSON.
    """
    from engine.teach.share import read_zip

    if not file.is_file():
        raise CommandError(f"{file}: no such file")
    opened = read_zip(file, pack_folder(name) if name else None)
    for problem in opened.problems:
        print(f"left out: {problem}", file=sys.stderr)
    if json:
        print_json(_pack_report(opened))
        return 0
    print(f"{opened.name}: {', '.join(opened.actions)}")
    print(f"next: main.py recognize SOURCE --pack {opened.folder.name}")
    return 0


def export(
    pack: tyro.conf.Positional[str], out: tyro.conf.Positional[Path], to: Literal["pyskl", "store"] = "pyskl"
) -> int:
    """Write the takes for other programs: the pickle PYSKL and MMAction2 read, or a store that "train" takes.

    Args:
        pack: Name or folder of the pack.
        out: The .pkl to write; for a store its folder, or a plain name in the user's stores.
        to: Form.
    """
    from engine.paths import stores
    from engine.teach.export import export_pickle, export_store

    opened = open_pack(pack)
    if to == "pyskl":
        written = export_pickle(opened, out)
        print(f"{out}: {written.sequences} takes")
        return 0
    folder = stores() / out if out == Path(out.name) else out
    if folder.exists():
        raise CommandError(f"{folder} is there already; choose another name")
    store = export_store(opened, folder)
    print(f"{folder}: {len(store)} takes of {len(store.classes)} actions, split takes")
    return 0
