"""The clips a run trains on, against slow readings of the published loaders, one clip at a time."""

import numpy as np
import pytest
import torch

from engine.data import sets
from engine.data.augment import Augmentation, training_clip
from engine.data.batch import ClipLoader
from engine.data.batch.loader import derived_seed
from engine.data.batch.streams import infogcn_offsets
from engine.data.preprocess import Preprocessing, preprocess
from engine.data.store import write_store
from engine.models.checkpoint import build_encoder
from engine.skeleton.layout import get_layout
from engine.skeleton.sequence import SkeletonSequence
from engine.training.feed import open_data, training_items, training_loader
from engine.training.recipe import Recipe, RecipeError, load_recipe
from engine.training.step import build_step

PARENTS = get_layout("ntu25").parents


def published(**changes) -> Recipe:
    values = {
        "name": "tiny", "dataset": "ntu60", "split": "xsub", "backbone_args": {"base_channels": 8},
        "preprocessing": {"persons": 2, "frames": 16, "sampling": "centre_crop", "stream": "bone_motion"},
        "augmentation": {"kind": "random_crop", "crop_least": 20, "rotation_rad": 0.3},
        "epochs": 1, "batch": 4, "seed": 3,
    }  # fmt: skip
    return Recipe.model_validate(values | changes)


@pytest.fixture(scope="module", params=["anywhere", "centred"])
def stores(request, tmp_path_factory):
    """12 sequences in NTU's form: 5 to 60 frames, every third with a second person who comes later."""
    rng = np.random.default_rng(0)

    def made():
        for i in range(12):
            frames = 5 + 5 * i
            xyz = np.cumsum(rng.standard_normal((frames, 2, 25, 3)) * 0.02, 0) + rng.standard_normal((1, 2, 25, 3))
            if request.param == "centred":
                # As the published arrays are: the loader then reads only the frames it needs.
                xyz = np.float32(xyz) - np.float32(xyz)[0, 0, 1]
            xyz[: frames // 2, 1] = 0
            if i % 3:
                xyz = xyz[:, :1]
            meta = {"performer": 1, "camera": 2, "digest": str(i)}
            yield SkeletonSequence(xyz, np.arange(frames) / 30, name=f"s{i}", label=i % 3, meta=meta)

    root = tmp_path_factory.mktemp("stores")
    write_store(root / "ntu60", "ntu60", made(), sets.DATASETS["ntu60"].classes[:3], 30.0)
    return root


def slow_ntu_clip(sequence, u, angles, frames, least):
    """Section 1.4 by hand: crop, resize with half-pixel centres, turn, bone, motion; the first joints' origin first."""
    xyz = np.zeros((len(sequence.xyz), 2, 25, 3))
    xyz[:, : sequence.xyz.shape[1]] = sequence.xyz
    there = (xyz != 0).any((2, 3))
    xyz = np.where(there[..., None, None], xyz - xyz[0, 0, 1], 0.0)
    valid = len(xyz)
    length = min(max(int((0.5 + 0.5 * u[0]) * valid), least), valid)
    start = int(u[1] * (valid - length + 1))
    crop, out = xyz[start : start + length], np.zeros((frames, 2, 25, 3))
    for i in range(frames):
        at = min(max((i + 0.5) * length / frames - 0.5, 0), length - 1)
        left = int(at)
        right = min(left + 1, length - 1)
        out[i] = crop[left] * (1 - (at - left)) + crop[right] * (at - left)
    (ca, cb, cc), (sa, sb, sc) = np.cos(angles), np.sin(angles)
    rx = np.array([[1, 0, 0], [0, ca, sa], [0, -sa, ca]])
    ry = np.array([[cb, 0, -sb], [0, 1, 0], [sb, 0, cb]])
    rz = np.array([[cc, sc, 0], [-sc, cc, 0], [0, 0, 1]])
    out = out @ (rz @ ry @ rx).T
    bones = np.stack([out[:, :, v] - out[:, :, PARENTS[v]] for v in range(25)], 2)
    moved = np.zeros_like(bones)
    moved[:-1] = bones[1:] - bones[:-1]
    return moved.transpose(3, 0, 2, 1)


def test_ntu_clips_against_the_published_loader_by_hand(stores):
    recipe = published()
    data = open_data(recipe, stores)
    loader = training_loader(recipe, data)
    assert type(loader) is ClipLoader and len(loader) == 3
    seen = []
    for b, batch in enumerate(loader):
        generator = torch.Generator().manual_seed(derived_seed(recipe.seed, 0, b, 0))
        u = torch.rand((4, 2), dtype=torch.float64, generator=generator).numpy()
        angles = (torch.rand((4, 3), generator=generator).numpy() * 2 - 1) * 0.3
        for n in range(4):
            sequence = data.main.sequence(int(batch.indices[n]))
            assert np.allclose(batch.clips[n], slow_ntu_clip(sequence, u[n], angles[n], 16, 20), atol=1e-5)
            assert batch.labels[n] == sequence.label
        seen += batch.indices.tolist()
    assert sorted(seen) == list(range(12))


def test_a_second_epoch_draws_other_crops(stores):
    recipe = published()
    loader = training_loader(recipe, open_data(recipe, stores))
    first, second = ({int(i): c for b in loader for i, c in zip(b.indices, b.clips, strict=True)} for _ in range(2))
    assert all(not torch.equal(first[i], second[i]) for i in range(1, 12))


def test_clips_of_the_test_can_be_trained_on_unchanged(stores):
    recipe = published(
        augmentation={"kind": "none"}, preprocessing={"persons": 2, "frames": 40, "sampling": "repeat"}
    )  # fmt: skip
    data = open_data(recipe, stores)
    loader = training_loader(recipe, data)
    seen = {int(i): clip for batch in loader for i, clip in zip(batch.indices, batch.clips, strict=True)}
    assert len(seen) == 12
    for i, clip in seen.items():
        sequence = data.main.sequence(i)
        np.testing.assert_allclose(clip.numpy(), preprocess(sequence, recipe.preprocessing), atol=1e-6)
        # Shorter ones begin again, with the pose they began with.
        assert len(sequence) >= 40 or torch.equal(clip[:, len(sequence)], clip[:, 0])


UCLA_CLIP = {"persons": 1, "frames": 16, "sampling": "linspace", "centre": "none", "scale": "minmax"}


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("random_crop", {}),
        ("random_crop", {"preprocessing": {"persons": 2, "frames": 16, "sampling": "centre_crop", "stream": "bone"}}),
        ("nw_ucla", {"preprocessing": UCLA_CLIP}),
        ("nw_ucla", {"preprocessing": UCLA_CLIP | {"stream": "joint_motion"}}),
    ],
)
def test_mirrored_clips_are_the_others_with_sides_exchanged(stores, kind, changes):
    still = {"kind": kind, "crop_least": 20}

    def clips(mirror: float):
        recipe = published(augmentation=still | {"mirror": mirror}, **changes)
        return list(training_loader(recipe, open_data(recipe, stores)))

    plain, mirrored, half = clips(0.0), clips(1.0), clips(0.5)
    flip = torch.tensor([-1.0, 1, 1])[:, None, None, None]
    kinds = set()
    for a, b, c in zip(plain, mirrored, half, strict=True):
        exchanged = a.clips[:, :, :, list(get_layout("ntu25").mirror)] * flip
        assert torch.allclose(b.clips, exchanged, atol=1e-5) and torch.equal(a.labels, b.labels)
        for n in range(len(c.labels)):
            kinds |= {
                word
                for word, like in (("plain", a.clips[n]), ("mirrored", exchanged[n]))
                if torch.allclose(c.clips[n], like, atol=1e-5)
            }
    assert kinds == {"plain", "mirrored"}


def test_mirrored_clips_of_the_nw_ucla_loader_one_at_a_time(stores):
    recipe = published(augmentation={"kind": "nw_ucla", "mirror": 1.0}, preprocessing=UCLA_CLIP)
    sequence = open_data(recipe, stores).main.sequence(5)
    clip, mirrored = (
        training_clip(sequence, recipe.preprocessing, recipe.augmentation, np.random.default_rng(0), mirrored)
        for mirrored in (False, True)
    )
    flip = np.array([-1, 1, 1], np.float32)[:, None, None, None]
    assert np.allclose(mirrored, clip[:, :, list(get_layout("ntu25").mirror)] * flip, atol=1e-5)


def test_classes_do_not_change_where_clips_are_mirrored_as_batches(stores):
    recipe = published(augmentation={"kind": "random_crop", "mirror": 0.5, "mirror_labels": {"a": "b"}})
    with pytest.raises(RecipeError, match="a mirrored clip keeps its class; use window"):
        training_loader(recipe, open_data(recipe, stores))


def test_crops_do_not_mix_with_further_stores(stores):
    recipe = published(idle_share=0.1)
    with pytest.raises(RecipeError, match="of one store: no also_train_on"):
        training_loader(recipe, open_data(recipe, stores))


@pytest.mark.parametrize(("kind", "repeat"), [("random_crop", 3), ("window", 2), ("nw_ucla", 5)])
def test_every_repetition_has_a_number_and_a_bank_row_of_its_own(stores, kind, repeat):
    """The known trap: rows that repeats overwrite never suffice, and the contrast is silently off."""
    mining = {"positives": 4 * repeat - 1, "hard_negatives": 5, "random_negatives": 5}
    recipe = published(
        repeat=repeat, method="skeletongcl", method_args={"width": 8, "mining": mining}, augmentation={"kind": kind},
        preprocessing={"persons": 2, "frames": 8, "sampling": "linspace", "scale": "minmax"},
    )  # fmt: skip
    data = open_data(recipe, stores)
    loader, items = training_loader(recipe, data), training_items(recipe, data)
    assert len(items) == 12 * repeat == 4 * len(loader)
    labels = torch.from_numpy(data.main.label[items])
    encoder = build_encoder("ctrgcn", 3, "ntu25", 2, {"base_channels": 8})
    step = build_step(recipe, encoder, 3, labels)
    seen = []
    for batch in loader:
        assert (batch.indices == torch.from_numpy(items)[batch.items]).all()
        assert (batch.labels == labels[batch.items]).all()
        seen += batch.items.tolist()
        parts = step(views=batch.views, lengths=batch.lengths, labels=batch.labels, items=batch.items, seed=batch.seed)
    assert sorted(seen) == list(range(12 * repeat))
    # Four sequences a class: only with a row for every repetition can 4 * repeat - 1 positives be found.
    assert parts["bank_filled"] == 1 and parts["valid_anchors"] > 0


@pytest.mark.parametrize(("layout", "order"), [("ntu25", 1), ("ntu25", 2), ("kinect20", 1), ("kinect20", 2)])
def test_infogcn_takes_its_offsets_of_positions_and_motions(layout, order):
    """The encoder's own offsets of a motion are the motion of the offsets, so joint streams are all it is fed."""
    skeleton = get_layout(layout)
    clips = torch.randn(2, 3, 6, skeleton.num_joints, 1, generator=torch.Generator().manual_seed(0))
    encoder = build_encoder("infogcn", 5, layout, 1, {"order": order, "base_channels": 16}).eval()
    plain = build_encoder("infogcn", 5, layout, 1, {"base_channels": 16}).eval()
    plain.load_state_dict(encoder.state_dict())
    moved = torch.zeros_like(clips)
    moved[:, :, :-1] = clips[:, :, 1:] - clips[:, :, :-1]
    offsets = infogcn_offsets(clips, order, skeleton, published=False)
    moved_offsets = torch.zeros_like(clips)
    moved_offsets[:, :, :-1] = offsets[:, :, 1:] - offsets[:, :, :-1]
    assert torch.allclose(encoder(clips).logits, plain(offsets).logits, atol=1e-4)
    assert torch.allclose(encoder(moved).logits, plain(moved_offsets).logits, atol=1e-4)


def test_when_skeletongcl_s_contrast_opens_on_nw_ucla(tmp_path):
    """Section 3.4, simulated there with the published counts and repeats: first class at step 65, all at step 93."""
    counts = [102, 102, 96, 124, 101, 102, 99, 99, 98, 97]

    def made():
        rng = np.random.default_rng(0)
        for i, label in enumerate(np.repeat(np.arange(10), counts)):
            yield SkeletonSequence(
                rng.standard_normal((2, 1, 20, 3)), np.arange(2) / 30, "kinect20", name=f"s{i}", label=int(label),
                meta={"view": 1 + i % 2, "digest": str(i)},
            )  # fmt: skip

    write_store(tmp_path / "nw_ucla", "nw_ucla", made(), sets.DATASETS["nw_ucla"].classes, 30.0)
    opened = []
    for seed in range(4):
        recipe = load_recipe("nw_ucla_xview_ctrgcn_skeletongcl_joint", {"seed": str(seed)})
        data = open_data(recipe, tmp_path)
        loader, items = training_loader(recipe, data), training_items(recipe, data)
        assert len(loader) == 318 and len(items) == 5100 and loader.batch == 16
        order, label = loader._order(0).numpy(), data.main.label[items]
        filled = np.stack([np.cumsum(label[order] == k) for k in range(10)], 1)[15::16]
        ready = (filled >= 128) & (filled.sum(1, keepdims=True) - filled >= 512)
        opened.append([int(np.argmax(ready.any(1))) + 1, int(np.argmax(ready.all(1))) + 1])
    first, every = np.mean(opened, 0)
    assert abs(first - 65) < 6 and abs(every - 93) < 6


def test_balance_shows_rare_classes_more_often_and_epochs_stay_as_long(tmp_path):
    """Classes of 16, 4 and 1 sequences: with a balance of a half they are seen as 4 to 2 to 1."""
    counts = (16, 4, 1)
    made = [
        SkeletonSequence(
            np.zeros((3, 1, 25, 3)) + 1, np.arange(3) / 30, name=f"{label}_{i}", label=label, meta={"subject": 1}
        )
        for label, count in enumerate(counts) for i in range(count)
    ]  # fmt: skip
    for name in ("own", "own_mediapipe"):
        write_store(tmp_path / name, name, made, ("a", "b", "c"), 30.0)
    clip = {"persons": 1, "frames": 4, "window_s": 0.1}
    settings = {"dataset": "own", "split": "xsub", "preprocessing": clip, "augmentation": {}, "repeat": 20}
    for balance, shares in ((0.0, (16, 4, 1)), (0.5, (4, 2, 1)), (1.0, (1, 1, 1))):
        recipe = published(**settings, balance=balance, also_train_on=["own_mediapipe"], also_share=0.5)
        data = open_data(recipe, tmp_path)
        items = training_items(recipe, data)
        assert len(items) == 21 * 20
        for label, share in enumerate(shares):
            due = 420 * share / sum(shares) / counts[label]
            times = np.bincount(items, minlength=21)[data.main.label == label]
            assert set(times) <= {int(np.floor(due + 1e-9)), int(np.ceil(due - 1e-9))}
        # Clips of the films are drawn with the same shares.
        loader, rng = training_loader(recipe, data), np.random.default_rng(1)
        drawn = [loader._choose(0, rng) for _ in range(4000)]
        films = np.array([store.label[index] for store, index in drawn if store.name == "own_mediapipe"])
        assert 1800 < len(films) < 2200
        assert np.allclose(np.bincount(films, minlength=3) / len(films), np.array(shares) / sum(shares), atol=0.04)


def test_roaming_windows_reach_all_of_a_long_sequence_and_short_ones_are_as_before():
    """x of a joint is the time: what a clip shows says where its window lay."""
    spec = Preprocessing(persons=1, frames=3, window_s=1.0, centre="none")

    def last(seconds, moves=(0.0, 9.0), **how):
        times = np.arange(int(30 * seconds) + 1) / 30
        xyz = np.broadcast_to(times[:, None, None, None] + 1, (len(times), 1, 25, 3)).copy()
        # Seen from the spine base, the others move but for the ends.
        xyz[:, :, 0, 1] = 0
        xyz[:, :, 1:, 1] = np.clip(times, *moves)[:, None, None]
        sequence = SkeletonSequence(xyz, times)
        rng = np.random.default_rng(0)
        clips = [training_clip(sequence, spec, Augmentation(**how), rng) for _ in range(300)]
        return np.array([clip[0, -1, 0, 0] - 1 for clip in clips])

    for roam, low, high in ((0.0, 2.0, 2.0), (0.5, 1.5, 2.5), (1.0, 1.0, 3.0)):
        end = last(3.0, roam=roam)
        assert abs(end.min() - low) < 0.02 and abs(end.max() - high) < 0.02
    assert np.array_equal(last(0.9, cut=0.2), last(0.9, cut=0.2, roam=1.0))
    # A second and a half is still at the beginning, one at the end: windows lie in the two seconds between.
    end = last(4.5, moves=(1.5, 3.5), roam=1.0)
    assert abs(end.min() - 2.5) < 0.15 and abs(end.max() - 3.5) < 0.15
