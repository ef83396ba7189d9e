"""Recipes of every published setting: each validates, and its numbers are those of the specification's tables."""

import itertools
import json
import runpy

import pytest
import torch

from engine.cli import entry
from engine.data.cleaning import CLEANINGS
from engine.data.sets import DATASETS, base_name
from engine.methods.skeletongcl import SkeletonGclSettings
from engine.methods.supervised import SupervisedSettings
from engine.models.checkpoint import build_encoder
from engine.paths import PROJECT
from engine.training.families import families, family_names, find_in_families
from engine.training.optimisers import learning_rate
from engine.training.recipe import RecipeError, differences, load_recipe, parse_recipe
from engine.training.recipe_fields import fields_of
from engine.training.step import build_step

PROTOCOLS = ("ntu60_xsub", "ntu60_xview", "ntu120_xsub", "ntu120_xset", "nw_ucla_xview")
STREAMS = ("joint", "bone", "joint_motion", "bone_motion")
# skeletongcl.md, section 4.1: epochs, base rate, decay epochs, warm-up, batch, weight decay, smoothing, precision.
GCN_NTU = (65, 0.1, [35, 55], 5, 64, 4e-4, 0.0, "fp32")
GCN_UCLA = (65, 0.1, [50], 5, 16, 1e-4, 0.0, "fp32")
TRAINING = {
    **{(backbone, p): GCN_NTU for backbone in ("agcn", "ctrgcn") for p in PROTOCOLS[:4]},
    ("agcn", "nw_ucla_xview"): GCN_UCLA,
    ("ctrgcn", "nw_ucla_xview"): GCN_UCLA,
    **{("infogcn", p): (110, 0.1, [90, 100], 5, 128, 5e-4, 0.1, "fp16") for p in PROTOCOLS[:2]},
    **{("infogcn", p): (110, 0.1, [90, 100], 5, 256, 5e-4, 0.1, "fp16") for p in PROTOCOLS[2:4]},
    ("infogcn", "nw_ucla_xview"): (110, 0.05, [90, 100], 5, 32, 4e-4, 0.1, "fp32"),
}
# Section 4.2, in the order of STREAMS.
TEMPERATURES = {
    ("ctrgcn", "ntu60_xsub"): (0.8, 0.5, 0.5, 0.5),
    ("ctrgcn", "ntu60_xview"): (0.8, 0.5, 1.0, 0.8),
    ("ctrgcn", "ntu120_xsub"): (0.8, 0.5, 0.8, 1.0),
    ("ctrgcn", "ntu120_xset"): (0.5, 0.5, 0.5, 0.5),
    ("agcn", "ntu60_xsub"): (0.5, 1.0, 0.5, 1.0),
    ("agcn", "ntu60_xview"): (0.8, 0.8, 1.0, 0.5),
    ("agcn", "ntu120_xsub"): (1.0, 1.0, 0.5, 0.5),
    ("agcn", "ntu120_xset"): (0.8, 0.5, 1.0, 0.5),
}
GCL = ("plain", "skeletongcl")
METHODS = ("skeletongcl", "skeletongcl_paper")
SUPERVISED = [
    (protocol, backbone, method, stream)
    for protocol in PROTOCOLS
    for backbone in ("agcn", "ctrgcn", "infogcn")
    for method in GCL
    for stream in (*STREAMS, *(("k2", "k2_motion") if backbone == "infogcn" else ()))
]


def name_of(protocol, backbone, method, stream):
    return f"{protocol}_{backbone}{'' if method == 'plain' else '_' + method}_{stream}"


def test_every_published_setting_has_a_recipe():
    ours = {name_of(*setting) for setting in SUPERVISED}
    assert len(ours) == 5 * 2 * (4 + 4 + 6) and ours <= set(family_names())
    assert len(set(family_names())) == len(family_names())


@pytest.mark.parametrize(("backbone", "protocol"), TRAINING)
def test_numbers_are_the_specification_s(backbone, protocol):
    for setting in SUPERVISED:
        if setting[:2] != (protocol, backbone):
            continue
        method, stream = setting[2:]
        r = load_recipe(name_of(*setting))
        o = r.optimiser
        found = (
            r.epochs, o.lr, o.milestones, o.warmup_epochs, r.batch, o.weight_decay, r.label_smoothing, r.precision
        )  # fmt: skip
        assert found == TRAINING[backbone, protocol]
        assert (o.kind, o.momentum, o.nesterov, o.schedule, r.seed) == ("sgd", 0.9, True, "step", 1)
        assert r.name == name_of(*setting) and r.backbone == backbone and r.source and r.limits
        assert f"{r.dataset.partition('.')[0]}_{r.split}" == protocol
        info = DATASETS[base_name(r.dataset)]
        assert r.split in info.splits
        variant = r.dataset.partition(".")[2]
        ntu = protocol != "nw_ucla_xview"
        assert variant == {"ntu60": "compatible", "ntu120": "compatible_ntu120", "nw_ucla": ""}[info.name]
        assert not variant or variant in CLEANINGS
        assert r.preprocessing.shape == ((3, 64, 25, 2) if ntu else (3, 52, 20, 1))
        how = r.augmentation
        if ntu:
            assert (how.kind, how.crop_low, how.crop_least, how.rotation_rad) == ("random_crop", 0.5, 64, 0.3)
            assert r.repeat == 1 and r.preprocessing.sampling == "centre_crop"
        else:
            assert (how.kind, how.yaw_deg, how.pitch_deg, r.repeat) == ("nw_ucla", 60, 60, 5)
            assert r.preprocessing.sampling == "linspace" and r.preprocessing.scale == "minmax"
        if backbone == "infogcn":
            order = {"j": None, "b": 1, "k": 2}[stream[0]]
            assert r.backbone_args.get("order") == order
            assert r.preprocessing.stream == ("joint_motion" if stream.endswith("motion") else "joint")
            assert r.preprocessing.normalisation == ("infogcn" if ntu else "none")
        else:
            assert r.preprocessing.stream == stream and r.backbone_args == {}
        supervised = r.method_args
        assert r.method == ("skeletongcl" if method == "skeletongcl" else "supervised")
        if method == "skeletongcl":
            settings = SkeletonGclSettings.model_validate(r.method_args)
            of_streams = TEMPERATURES.get((backbone, protocol))
            assert settings.temperature == (of_streams[STREAMS.index(stream)] if of_streams else 0.8)
            assert settings.variant == "released" and settings.instance_weight == 1
            assert (settings.mining.positives, settings.mining.hard_negatives) == (128, 512)
            assert settings.width == 256 and not settings.train_projection
            supervised = r.method_args.get("supervised", {})
        if backbone == "infogcn":
            weights = SupervisedSettings.model_validate(supervised)
            assert (weights.prior_weight, weights.marginal_weight) == (0.1, 1e-4 if ntu else 0.1)


@pytest.mark.parametrize("stream", ["joint", "bone"])
@pytest.mark.parametrize("split", ["xsub", "xview"])
def test_2s_agcn_has_its_own_paper_s_setting(split, stream):
    r = load_recipe(f"ntu60_{split}_agcn_original_{stream}")
    o = r.optimiser
    assert (r.epochs, o.lr, o.milestones, o.warmup_epochs, r.batch, o.weight_decay) == (50, 0.1, [30, 40], 0, 64, 1e-4)
    assert (r.dataset, r.split, r.backbone, r.method) == ("ntu60.top_two", split, "agcn", "supervised")
    assert r.augmentation.kind == "none" and r.preprocessing.shape == (3, 300, 25, 2)
    spec = r.preprocessing
    assert (spec.sampling, spec.normalisation, spec.stream) == ("repeat", "cmd", stream)


@pytest.mark.parametrize("backbone", ["agcn", "ctrgcn", "infogcn"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_paper_s_banks_are_recipes_of_their_own(backbone, protocol):
    """Section 3.3, variant P, around the same training; 684, 0.85, 0.8 and 1 are the best estimates of section 9."""
    for stream in STREAMS:
        released = load_recipe(name_of(protocol, backbone, "skeletongcl", stream))
        paper = load_recipe(name_of(protocol, backbone, "skeletongcl_paper", stream))
        apart = {"name", "title", "source", "method_args"}
        assert paper.model_dump(exclude=apart) == released.model_dump(exclude=apart)
        assert "variant P" in paper.source and "paper's banks" in paper.title
        settings = SkeletonGclSettings.model_validate(paper.method_args)
        assert (settings.variant, settings.queue_length, settings.momentum) == ("paper", 684, 0.85)
        assert (settings.temperature, settings.semantic_weight) == (0.8, 1)
        assert settings.supervised == SkeletonGclSettings.model_validate(released.method_args).supervised


def test_published_schedule():
    """Section 8, check 27."""
    ctrgcn, infogcn = load_recipe("ntu60_xsub_ctrgcn_joint"), load_recipe("ntu60_xsub_infogcn_joint")
    rates = [learning_rate(ctrgcn, epoch) for epoch in (0, 1, 2, 3, 4, 5, 34, 35, 54, 55, 64)]
    assert rates == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    rates = [learning_rate(infogcn, epoch) for epoch in (5, 89, 90, 99, 100, 109)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("method", GCL)
@pytest.mark.parametrize("backbone", ["agcn", "ctrgcn"])
def test_the_short_schedule_differs_from_the_published_one_where_its_source_says(backbone, method, stream):
    published = name_of("nw_ucla_xview", backbone, method, stream)
    short = published.removesuffix(stream) + f"short_{stream}"
    old, new = (load_recipe(name).model_dump(mode="json") for name in (published, short))
    found = {key: value[1] for key, value in differences(old, new).items() if key not in ("name", "title", "source")}
    found.pop("optimiser.milestones", None)
    assert found == {
        "augmentation.mirror": 0.5, "label_smoothing": 0.1, "optimiser.weight_decay": 5e-4,
        "optimiser.schedule": "cosine", "optimiser.warmup_epochs": 1, "epochs": 10,
    }  # fmt: skip
    assert new["title"] == f"{old['title']}, short schedule"


@pytest.mark.parametrize("backbone", ["agcn", "ctrgcn", "infogcn"])
def test_nw_ucla_with_skeletongcl_fills_the_published_bank(backbone):
    """Section 3.3: 5100 rows. With fewer the objective itself refuses, because its contrast could never begin."""
    recipe = load_recipe(f"nw_ucla_xview_{backbone}_skeletongcl_joint")
    counts = torch.tensor([102, 102, 96, 124, 101, 102, 99, 99, 98, 97])
    labels = torch.arange(10).repeat_interleave(counts)
    encoder = build_encoder(backbone, 10, "kinect20", 1, recipe.backbone_args)
    step = build_step(recipe, encoder, 10, labels.repeat(recipe.repeat))
    assert step.method.bank.vectors.shape == (5100, 256)
    assert step.method.settings.supervised.label_smoothing == (0.1 if backbone == "infogcn" else 0)
    with pytest.raises(RecipeError, match="no anchor can ever be contrasted"):
        build_step(recipe, encoder, 10, labels)


def test_changes_titles_and_errors():
    recipe = load_recipe("ntu120_xset_agcn_skeletongcl_bone_motion", {"epochs": "3", "optimiser.lr": "0.05"})
    assert (recipe.epochs, recipe.optimiser.lr, recipe.optimiser.milestones) == (3, 0.05, [35, 55])
    assert recipe.title == "NTU-120 cross-setup, 2s-AGCN + SkeletonGCL, bone motion"
    assert load_recipe("ntu120_xset_agcn_bone").title == "NTU-120 cross-setup, 2s-AGCN, bones"
    assert find_in_families("ntu60_xsub_ctrgcn") is None
    with pytest.raises(RecipeError, match="did you mean ntu60_xsub_ctrgcn_"):
        load_recipe("ntu60_xsub_ctrgcn")


def test_the_command_lists_recipes_by_words_and_help_stays_short(capsys):
    assert entry(["train", "--list", "ntu120_xset", "agcn", "gcl", "bone", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [r["name"] for r in found] == [f"ntu120_xset_agcn_{m}_{s}" for m in METHODS for s in ("bone", "bone_motion")]
    assert found[0]["source"] and found[0]["dataset"] == "ntu120.compatible_ntu120"
    assert entry(["train", "--list", "nw_ucla", "joint"]) == 0
    assert "nw_ucla_ctrgcn_joint " in capsys.readouterr().out
    assert entry(["train", "--list", "nothing"]) == 1 and "no recipe's name holds nothing" in capsys.readouterr().err
    assert entry(["train", "--help"]) == 0
    help_text = capsys.readouterr().out
    assert "_{agcn,ctrgcn}[_{skeletongcl,skeletongcl_paper}]_{joint,bone,joint_motion,bone_motion}" in help_text
    assert len(help_text.splitlines()) < 60


@pytest.mark.parametrize("name", ["nw_ucla_ctrgcn_joint", "ntu60_xsub_infogcn_skeletongcl_joint", "ntu60_xsub_i2md",
                                  "ntu60_xsub_gl_transformer", "cmd_linear", "hiclr_knn"])  # fmt: skip
def test_help_of_a_recipe_explains_every_field(capsys, name):
    assert entry(["train", name, "--help", "--batch", "24"]) == 0
    lines = capsys.readouterr().out.splitlines()
    recipe = load_recipe(name)
    fields = {line.split()[0].removeprefix("--"): line.split(maxsplit=1)[1] for line in lines if line[:4] == "  --"}
    expected = {f.name for f in fields_of(type(recipe))} - {"source", "limits", "method_args", "backbone_args"}
    assert expected <= fields.keys() and fields["batch"] == "24"
    assert all(key.startswith(("method_args.", "backbone_args.")) for key in fields.keys() - expected)
    assert any(key.startswith("method_args.") for key in fields) == hasattr(recipe, "method_args")
    # Every field of the recipe and of its method is explained; an argument of an encoder has its name alone.
    told = [below for line, below in itertools.pairwise(lines) if line[:4] == "  --" and "backbone_args." not in line]
    assert told and all(below.startswith(" " * 6) for below in told)
    # What it shows is what may be typed.
    again = load_recipe(name, {key: "" if value == '""' else value for key, value in fields.items()})
    apart = {"batch", "method_args", "backbone_args"}
    assert again.model_dump(exclude=apart) == recipe.model_dump(exclude=apart)


def test_what_is_typed_is_read_as_its_field_wants_it():
    changes = {"compile": "on", "title": "1.10", "name": "off", "batch": "8", "optimiser.milestones": "[3, 4]"}
    recipe = load_recipe("nw_ucla_ctrgcn_joint", changes)
    assert (recipe.compile, recipe.title, recipe.name, recipe.batch) == ("on", "1.10", "off", 8)
    assert recipe.optimiser.milestones == [3, 4]
    assert parse_recipe(recipe.model_dump() | {"compile": False}).compile == "off"
    assert load_recipe("cmd_linear", {"parent_stream": "null"}).parent_stream is None


def test_the_reference_of_recipes_is_what_their_models_say():
    script = runpy.run_path(str(PROJECT / "docs" / "make_recipe_reference.py"))
    made = script["reference"]()
    assert made == script["TARGET"].read_text("utf-8"), "run python docs/make_recipe_reference.py"
    for field in ("optimiser.lr", "augmentation.yaw_deg", "aggregation.neighbours", "mining.positives", "fraction"):
        assert f"| `{field}` |" in made


def test_recipes_of_a_family_do_not_share_their_fields():
    a, b = find_in_families("ntu60_xsub_ctrgcn_joint"), find_in_families("ntu60_xsub_ctrgcn_joint")
    a["optimiser"]["lr"] = 7
    assert b["optimiser"]["lr"] == find_in_families("ntu60_xview_ctrgcn_joint")["optimiser"]["lr"] == 0.1


@pytest.mark.parametrize("family", families(), ids=lambda family: family.stem)
def test_every_recipe_of_every_family_validates_with_a_digest_of_its_own(family):
    recipes = [load_recipe(name) for name in family.members()]
    assert len({recipe.digest() for recipe in recipes}) == len(recipes)
    # The run of a protocol is named after its parent.
    named = [recipe for recipe in recipes if not hasattr(recipe, "parent")]
    assert all(recipe.source for recipe in recipes) and all(recipe.name in family.members() for recipe in named)
    assert family.pattern().count("{") <= len(family.axes)
