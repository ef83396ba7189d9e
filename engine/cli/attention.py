"""``attention``: a picture of what a GL-Transformer looks at in one sequence."""

from __future__ import annotations

import json as json_module
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tyro

from engine.cli import CommandError
from engine.paths import stores

if TYPE_CHECKING:
    from engine.data.store import SequenceStore
    from engine.models.attention_maps import AttentionMaps


def attention(
    checkpoint: tyro.conf.Positional[Path],
    dataset: tyro.conf.Positional[str],
    sequence: tyro.conf.Positional[str],
    out: Path | None = None,
    json: Path | None = None,
) -> int:
    """Draw which joints the body token of a GL-Transformer reads in a sequence, and which frames read which.

    Args:
        checkpoint: Checkpoint folder, or the name of a shipped or trained one.
        dataset: Prepared store.
        sequence: Name of a sequence in it, or its number from 0.
        out: PNG file to write; default SEQUENCE_attention.png here.
        json: Write the numbers as JSON to this file, - for stdout.
    """
    import torch

    from engine.cli.live import find_checkpoint
    from engine.data.preprocess import preprocess, sample_times
    from engine.data.store import SequenceStore
    from engine.models.attention_maps import attention_maps
    from engine.models.checkpoint import load_encoder
    from engine.models.gl_transformer import GLTransformer
    from engine.render.attention_picture import AttentionPage, draw_attention
    from engine.render.picture import write_png
    from engine.skeleton.layout import get_layout

    encoder, card = load_encoder(find_checkpoint(checkpoint))
    if not isinstance(encoder, GLTransformer):
        raise CommandError(f"{card.name}: {card.backbone} has no attention maps; give a checkpoint of gl_transformer")
    store = SequenceStore(stores() / dataset)
    performance = store.sequence(_place(store, sequence))
    spec = card.preprocessing
    try:
        clip = preprocess(performance, spec)
        # The same frames as the sensor saw them, to be drawn.
        plain = {"normalisation": "none", "centre": "none", "facing": False, "scale": "none", "stream": "joint"}
        seen = preprocess(replace(performance, meta={}), spec.model_copy(update=plain))
    except ValueError as error:
        raise CommandError(f"{performance.name} can't be fed to {card.name}: {error}") from error
    maps = attention_maps(encoder, torch.from_numpy(clip))
    times = performance.times if spec.sampling == "first" else sample_times(performance.times, spec)
    times = times[np.flatnonzero(maps.valid)]
    label = store.classes[performance.label] if performance.label >= 0 else "unknown class"
    page = AttentionPage(
        title=f"{performance.name}: {label}",
        subtitle=f"attention of {card.name} ({card.backbone}, {len(maps.frames)} blocks, mean of the heads), "
        f"{len(times)} frames; 1 = an equal share of all",
        times=times,
        joints=seen.transpose(1, 3, 2, 0)[maps.valid],
        body=maps.joints(),
        frames=maps.frames * maps.frames.shape[2],
        layout=get_layout(spec.layout),
    )
    path = out or Path(f"{performance.name}_attention.png")
    write_png(path, draw_attention(page))
    summary = _summary(page.layout.joints, maps, page.present)
    if json:
        text = json_module.dumps(
            {"sequence": performance.name, "class": label, "picture": str(path)} | summary, indent=1
        )
        print(text) if str(json) == "-" else json.write_text(text + "\n", "utf-8")
    if str(json) != "-":
        for person in summary["persons"]:
            strongest = sorted(person["joints"].items(), key=lambda item: -item[1])[:5]
            names = ", ".join(f"{name} {value:.2f}" for name, value in strongest)
            print(f"body of person {person['person']} reads most: {names} (1 = equal share)")
        print(path)
    return 0


def _place(store: SequenceStore, sequence: str) -> int:
    """Position of a sequence given by name or number."""
    if sequence in store.names:
        return store.names.index(sequence)
    if sequence.isdigit() and int(sequence) < len(store):
        return int(sequence)
    import difflib

    close = difflib.get_close_matches(sequence, store.names, 3)
    hint = f"; did you mean {', '.join(close)}?" if close else f"; names look like {store.names[0]}"
    raise CommandError(f"{store.name} has no sequence {sequence!r} (0 to {len(store) - 1} by number){hint}")


def _summary(joints: tuple[str, ...], maps: AttentionMaps, present: list[int]) -> dict[str, Any]:
    """Mean over frames of what every body token takes from its own joints, and of how much each frame is read."""
    mean = maps.joints().mean(0)
    own = maps.body_to_joints.mean((0, 1)).sum(-1)
    persons = [
        {
            "person": p + 1,
            "joints": {name: round(float(mean[p, p, v]), 4) for v, name in enumerate(joints)},
            "from_own_body": round(float(own[p, p]), 4),
        }
        for p in present
    ]
    return {"persons": persons, "frames": [round(float(v), 4) for v in maps.seen_frames()]}
