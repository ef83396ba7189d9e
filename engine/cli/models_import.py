"""``models import``: a checkpoint of our own from weights another project published."""

from __future__ import annotations

import json as json_module
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from pydantic import ValidationError

from engine.cli import CommandError, UsageError
from engine.cli.progress import Style, say, stop_with_input

if TYPE_CHECKING:
    from engine.data.preprocess import Preprocessing
    from engine.models.card import CheckpointCard
    from engine.models.foreign import Imported

Stream = Literal["joint", "bone", "joint_motion", "bone_motion"]
# How the papers prepare clips, by backbone (specifications of the data, section 2, and of each method).
_PREPARED: dict[str, dict[str, Any]] = {
    "ctrgcn": {"frames": 64, "sampling": "centre_crop", "normalisation": "first_frame_spine"},
    "agcn": {"frames": 64, "sampling": "centre_crop", "normalisation": "first_frame_spine"},
    "infogcn": {"frames": 64, "sampling": "centre_crop", "normalisation": "infogcn"},
    "stgcn": {"frames": 50, "sampling": "resize", "normalisation": "hiclr"},
    "dstanet": {"frames": 50, "sampling": "resize", "normalisation": "hiclr"},
    "gru": {"frames": 64, "sampling": "centre_crop", "normalisation": "cmd"},
    "gl_transformer": {"frames": 300, "sampling": "first", "normalisation": "gl_transformer"},
}
_NW_UCLA = {"layout": "kinect20", "persons": 1, "frames": 52, "sampling": "linspace", "centre": "first",
            "scale": "minmax", "window_s": 2.0}  # fmt: skip


def import_(
    file: tyro.conf.Positional[Path],
    dataset: str,
    split: str = "xsub",
    backbone: str = "auto",
    stream: Stream = "joint",
    classes: Path | None = None,
    like: str | None = None,
    part: str | None = None,
    args: str = "{}",
    name: str | None = None,
    title: str = "",
    out: Path | None = None,
    graph: bool = True,
    allow_unmapped: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    progress: Style = "text",
) -> int:
    """Import weights (.pt, .pth) published for CTR-GCN, 2s-AGCN, SkeletonGCL, InfoGCN, HiCLR, CMD or GL-Transformer.

    Nothing in the file is run. Every parameter is found by its published name; what does not fit is refused and named.
    Clips are prepared as the paper of the backbone does, or as --like says. Test what came in: "evaluate NAME".

    Examples: "models import joint.pt --dataset ntu60", "models import w.pt --dataset nw_ucla --split xview",
    "models import cmd.pth.tar --dataset ntu60 --part encoder_q_bone --stream bone".

    Args:
        file: The weights.
        dataset: Dataset they were trained on; gives the classes in their published order.
        split: Split they were trained on.
        backbone: ctrgcn, agcn, infogcn, stgcn, dstanet, gru, gl_transformer; auto tells it by the names in the file.
        stream: Stream they were trained on; nothing in a file tells it.
        classes: Text file with one class name a line, for data that are not among the datasets here.
        like: Recipe or checkpoint whose preparation of clips is taken; ntu60_xsub_agcn_original_joint for weights of
            2s-AGCN's own paper.
        part: Encoder to take from a file that holds several (encoder_q, encoder_q_motion).
        args: Arguments of the backbone as JSON, where the file can't tell them: {"order": 1} for InfoGCN's bones.
        name: Name of the checkpoint; default the file's.
        title: Title shown in lists.
        out: Folder to write to; default the user's folder of imported checkpoints.
        graph: Also write the ONNX graph that runs live.
        allow_unmapped: Import although the file holds tensors that have no counterpart.
        json: Print the result as JSON.
        progress: json writes one line of JSON per step to stderr, and stops when standard input ends.
    """
    if progress == "json":
        stop_with_input()
    from engine.models.checkpoint import save_checkpoint
    from engine.models.foreign import digest_of, import_encoder, read_foreign, safe_name

    def step(what: str, done: int) -> None:
        if progress == "json":
            say(what=what, done=done, total=4 if graph else 3, damaged=0)

    more = _backbone_args(args)
    known = _classes(dataset, classes)
    step("reading the file", 0)
    found = read_foreign(file, backbone, part)
    spec = _preprocessing(found.family.backbone, dataset, stream, like)
    step("matching names", 1)
    result = import_encoder(found, known, spec.layout, spec.persons, more, allow_unmapped)
    _try_out(result, spec)
    step("writing the checkpoint", 2)
    called = safe_name(name or file.name.split(".")[0])
    folder = _free_folder(out, called)
    origin = {"imported_from": file.name, "file_sha256": digest_of(file), "part": found.prefix.rstrip(".")}
    save_checkpoint(folder, _card(called, title, result, known, spec, dataset, split, origin), result.encoder)
    step("writing the graph", 3)
    if graph and result.has_classifier:
        from engine.deploy.export import export_onnx

        export_onnx(folder)
    if graph:
        step("done", 4)
    _tell(folder, called, result, json)
    return 0


def _backbone_args(text: str) -> dict[str, Any]:
    try:
        args = json_module.loads(text)
    except json_module.JSONDecodeError as error:
        raise UsageError(f"--args is no JSON ({error})") from error
    if not isinstance(args, dict):
        raise UsageError('--args is a JSON object such as {"order": 1}')
    return args


def _free_folder(out: Path | None, called: str) -> Path:
    """Where the checkpoint goes: ``out`` itself if it is named like a file, else a folder of its name in it."""
    from engine.models.shelf import imported

    folder = (out or imported()) / called if out is None or out.suffix == "" else out
    if (folder / "card.json").is_file():
        raise CommandError(f"{folder} holds a checkpoint already; choose another --name")
    return folder


def _classes(dataset: str, file: Path | None) -> list[str]:
    from engine.data.sets import dataset_info

    if file is not None:
        try:
            lines = [line.strip() for line in file.read_text("utf-8").splitlines()]
        except UnicodeDecodeError as error:
            raise CommandError(f"{file} is no text in UTF-8 ({error.reason})") from error
        names = [line for line in lines if line]
        if len(names) < 2 or len(set(names)) != len(names):
            raise CommandError(f"{file} must hold two or more different class names, one a line")
        return names
    try:
        return list(dataset_info(dataset).classes)
    except KeyError as error:
        raise UsageError(
            f"--dataset {error.args[0]}; for other data give the class names with --classes FILE"
        ) from error


def _preprocessing(backbone: str, dataset: str, stream: Stream, like: str | None) -> Preprocessing:
    from engine.data.preprocess import Preprocessing

    if like is not None:
        spec = _preprocessing_like(like)
        return spec.model_copy(update={"stream": stream})
    values = {"layout": "ntu25", "persons": 2, **_PREPARED[backbone]}
    if dataset == "nw_ucla" and backbone in ("ctrgcn", "agcn", "infogcn"):
        values = dict(_NW_UCLA)
    return Preprocessing.model_validate(values | {"stream": stream})


def _preprocessing_like(like: str) -> Preprocessing:
    from engine.cli.live import find_checkpoint
    from engine.models.card import CARD_FILE, read_card
    from engine.training.recipe import RecipeError, load_recipe

    folder = find_checkpoint(Path(like))
    if (folder / CARD_FILE).is_file():
        return read_card(folder).preprocessing
    try:
        spec: Preprocessing | None = getattr(load_recipe(like), "preprocessing", None)
    except (RecipeError, ValidationError) as error:
        raise CommandError(f"--like {like} is neither a checkpoint nor a recipe: {error}") from error
    if spec is None:
        raise CommandError(f"--like {like}: that recipe does not say how clips are prepared")
    return spec


def _try_out(result: Imported, spec: Preprocessing) -> None:
    """Finite answers on a made-up clip: weights that overflow are damaged or belong to something else."""
    import torch

    clip = torch.randn((1, *spec.shape), generator=torch.Generator().manual_seed(0)) * 0.3
    with torch.inference_mode():
        out = result.encoder(clip)
    if not bool(torch.isfinite(out.features).all()):
        raise CommandError("the imported encoder does not give finite features: the weights are damaged")


def _card(
    name: str, title: str, result: Imported, classes: list[str], spec: Preprocessing, dataset: str, split: str,
    origin: dict[str, Any],
) -> CheckpointCard:  # fmt: skip
    from engine.models.card import CheckpointCard
    from engine.models.checkpoint import environment

    family = result.family
    return CheckpointCard(
        name=name,
        title=title or f"{family.title}, {dataset} {split}, {spec.stream.replace('_', ' ')} (imported)",
        method="imported",
        backbone=family.backbone,
        backbone_args=result.args,
        feature_dim=int(result.encoder.feature_dim),  # type: ignore[arg-type]
        classes=classes,
        classifier_trained=result.has_classifier,
        preprocessing=spec,
        dataset=dataset,
        split=split,
        trained_on=[dataset],
        training=origin,
        versions=environment(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        licence=f"weights: {family.licence}" if family.licence else "",
        limits=f"Imported weights of {family.title}; dataset, split and stream are as they were given, and nothing has "
        "been measured here. Test it before you trust it; the decision is not calibrated.",
    )


def _tell(folder: Path, name: str, result: Imported, as_json: bool) -> None:
    if as_json:
        report = {
            "folder": str(folder), "name": name, "backbone": result.family.backbone, "used": result.used,
            "ignored": result.ignored, "unmapped": result.unmapped, "elsewhere": len(result.others),
            "has_classifier": result.has_classifier, "args": result.args,
        }  # fmt: skip
        print(json_module.dumps(report))
        return
    print(f"{folder}: {result.family.title}, {result.used} tensors taken")
    if result.args:
        print(f"sizes from the file: {result.args}")
    if result.ignored:
        print(
            f"carry nothing and were left: {', '.join(result.ignored[:6])}{' ...' if len(result.ignored) > 6 else ''}"
        )
    if result.unmapped:
        print(f"have no counterpart and were left: {', '.join(result.unmapped)}")
    if result.others:
        print(f"{len(result.others)} tensors stand elsewhere in the file (other encoders, banks)")
    if not result.has_classifier:
        print("the file has no classifier: a pretrained encoder, to be probed or trained on, not to be used live")
    print(f"nothing has been measured: main.py evaluate {folder}", file=sys.stderr)
