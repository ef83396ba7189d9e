"""Any recipe that ships becomes a form and a file without a change; what is wrong is named at its field."""

import pytest

from engine.training.recipe import TASKS, RecipeError, load_recipe, parse_recipe
from engine.training.recipe_fields import fields_of
from skelapp.training.choices import Choices, StoreChoice, choice_of, find_starters, task_title
from skelapp.training.draft import MISSING, Draft, read_recipe_file, write_recipe_file
from skelapp.training.fields import Bad, parse, shown
from skelapp.training.machine import Machine

STARTERS = find_starters()
SMALL = {"name": "small", "dataset": "utd_mhad", "split": "xsub", "preprocessing": {"frames": 8}}


def spec(task, name):
    return next(field for field in fields_of(TASKS[task]) if field.name == name)


def test_recipes_that_ship_are_there_and_keep_their_digests():
    names = {starter.data["name"] for starter in STARTERS if "name" in starter.data}
    assert {"nw_ucla_ctrgcn_joint", "utd_mhad_ctrgcn_joint_idle", "ntu60_xsub_ctrgcn_joint"} <= names
    for starter in STARTERS[:: max(1, len(STARTERS) // 40)]:
        draft = Draft(starter.data)
        if draft.errors():  # a protocol without its parent
            assert {name.split(".")[0] for name in draft.errors()} <= {"parent", "steps"}
            continue
        assert not draft.changed([field.name for field in fields_of(draft.model)])
        assert parse_recipe(draft.as_data()).digest() == parse_recipe(starter.data).digest(), starter.title


@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_task_has_fields_with_titles_and_defaults(task):
    fields = fields_of(TASKS[task])
    draft = Draft({"task": task})
    assert len({field.name for field in fields}) == len(fields) and task_title(task)
    for field in fields:
        assert field.title and field.kind in ("choice", "check", "int", "float", "text", "yaml")
        if not field.required and field.kind != "text":
            value = draft.get(field.name)
            if value is not MISSING and value is not None:
                again = parse(field, shown(field, value)) if field.kind in ("int", "float", "yaml") else value
                assert again == value, field.name


def test_changes_undo_and_errors_at_their_fields():
    draft = Draft(SMALL)
    assert draft.errors() == {} and draft.get("optimiser.lr") == 0.1 and not draft.can_undo
    assert draft.change("optimiser.lr", 0.5) and not draft.change("optimiser.lr", 0.5)
    assert draft.change("optimiser.milestones", [10, -1.5])
    assert draft.changed(["optimiser.lr", "optimiser.milestones", "epochs"]) == {"optimiser.lr", "optimiser.milestones"}
    assert list(draft.errors()) == ["optimiser.milestones.1"]
    assert draft.undo() and draft.errors() == {} and draft.get("optimiser.lr") == 0.5
    draft.change("optimiser.lr", -1.0)
    draft.change("batch", 7)
    draft.change("devices", 2)
    assert "greater than 0" in draft.errors()["optimiser.lr"]
    assert draft.reset("optimiser.lr") and "shared evenly" in draft.errors()[""]
    draft.change("split", MISSING)
    assert draft.errors()["split"] == "This is needed."
    with pytest.raises(RecipeError, match="task: 'juggle'"):
        Draft({"task": "juggle"})


def test_files(tmp_path):
    draft = Draft(SMALL)
    draft.change("optimiser.lr", 0.02)
    path = tmp_path / "small.yaml"
    write_recipe_file(path, draft.as_data())
    assert load_recipe(path).digest() == parse_recipe(SMALL | {"optimiser": {"lr": 0.02}}).digest()
    assert Draft(read_recipe_file(path)).values == draft.values
    assert "augmentation" not in path.read_text() and "backbone: ctrgcn" in path.read_text()
    for text, message in (("[1", "not readable YAML"), ("[1]", "a mapping of fields")):
        path.write_text(text)
        with pytest.raises(RecipeError, match=message):
            read_recipe_file(path)


def test_typing_values():
    lr, frames = spec("supervised", "optimiser.lr"), spec("supervised", "preprocessing.frames")
    args, split = spec("supervised", "backbone_args"), spec("supervised", "split")
    assert parse(lr, " 1e-4 ") == 1e-4 and shown(lr, 1e-4) == "0.0001" and shown(lr, 0.1 + 0.2) == repr(0.1 + 0.2)
    assert parse(frames, "52") == 52 and parse(args, "{base_channels: 8}") == {"base_channels": 8}
    assert shown(args, {"base_channels": 8}) == "{base_channels: 8}" and parse(split, "") is MISSING
    for field, text in ((lr, "fast"), (frames, "5.5"), (args, ""), (args, "{a")):
        with pytest.raises(Bad):
            parse(field, text)
    assert frames.range == "at least 2, at most 1024" and "bf16" in spec("supervised", "precision").options
    parent = spec("linear", "preprocessing")
    assert parent.optional and parse(parent, "") is None


def test_a_choice_finds_its_published_recipe():
    wanted = next(s for s in STARTERS if s.data.get("name") == "nw_ucla_ctrgcn_joint")
    draft = Draft(wanted.data)
    assert choice_of(draft.values) == wanted.choice
    draft.change("method", "skeletongcl")
    found = [starter for starter in STARTERS if starter.choice == choice_of(draft.values)]
    assert found and all(starter.data["method"] == "skeletongcl" for starter in found)


def test_what_this_machine_can_not_do_is_said_before_the_start():
    gpu = {"index": 0, "name": "A GPU", "memory_gib": 8.0, "bf16": False}
    bare, with_gpu = Machine("A processor", 2, 8.0), Machine("A processor", 2, 8.0, gpus=(gpu,))
    assert list(bare.complaints({"accelerator": "cuda"})) == ["accelerator"]
    assert list(bare.complaints({"precision": "fp16"})) == ["precision"]
    assert bare.complaints({"precision": "bf16"}) == {} and bare.lines()[0] == "No CUDA GPU"
    assert list(with_gpu.complaints({"devices": 2})) == ["devices"]
    assert list(with_gpu.complaints({"precision": "bf16"})) == ["precision"]
    assert with_gpu.complaints({"precision": "fp16"}) == {} == with_gpu.complaints({"accelerator": "cpu"})
    assert "A GPU" in with_gpu.plan({}, 1) and "1 of 2 threads" in bare.plan({}, 1)
    assert Machine(problem="no answer").complaints({"precision": "fp16"}) == {}
    slower, faster = (Machine("A processor", 2, 8.0, gain).plan({"precision": "bf16"}, 1) for gain in (0.6, 2.14))
    assert "fp32 is no slower here" in slower and "2.1 × fp32" in faster
    auto = {"precision": "auto"}
    assert bare.plan(auto, 1).endswith("in fp32.") and with_gpu.plan(auto, 1).endswith("in fp32.")
    assert "in bf16" in Machine("A processor", 2, 8.0, 2.0).plan(auto, 1) and with_gpu.complaints(auto) == {}
    assert Machine("A processor", 2, 8.0, 2.0).plan(auto | {"devices": 2}, 1).endswith("in fp32.")
    newer = Machine("A processor", 2, 8.0, gpus=(gpu | {"bf16": True},))
    assert newer.plan(auto, 1).endswith("in bf16.") and newer.plan(auto | {"accelerator": "cpu"}, 1).endswith(
        "in fp32."
    )


def test_stores_are_found_by_name():
    choices = Choices(stores=(StoreChoice("a", "A", ("x",), True), StoreChoice("b", "B", (), False)))
    assert choices.store("a").splits == ("x",) and choices.store("c") is None
