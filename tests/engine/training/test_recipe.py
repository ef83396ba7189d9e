"""Recipes of all tasks: one schema per task, digests that outlive new fields, errors that name the field."""

import pytest
import yaml

from engine.training.recipe import TASKS, RecipeError, load_recipe, parse_recipe

# Runs, cards and tables quote these: a new field must not change them.
PUBLISHED = {
    "nw_ucla_ctrgcn_joint": "1b200f788892",
    "utd_mhad_ctrgcn_joint": "16c187fdb6ec",
    "utd_mhad_ctrgcn_joint_idle": "df42c9c17996",
    "utd_mhad_ctrgcn_joint_kinect": "76c3e135e210",
}
PRETRAIN = {
    "task": "pretrain", "name": "p", "dataset": "nw_ucla", "split": "xview",
    "preprocessing": {"frames": 50, "sampling": "resize"},
}  # fmt: skip


@pytest.mark.parametrize(("name", "digest"), PUBLISHED.items())
def test_digests_of_published_recipes_stay(name, digest):
    assert load_recipe(name).digest() == digest


def test_the_digest_sees_the_result_and_not_the_place():
    recipe = load_recipe("nw_ucla_ctrgcn_joint")
    same = recipe.model_copy(update={"threads": 7, "accelerator": "cpu", "nodes": 3, "devices": 5})
    assert same.digest() == recipe.digest()
    for changes in ({"method": "skeletongcl"}, {"evaluate_every": 4}, {"name": "other"}):
        assert recipe.model_copy(update=changes).digest() != recipe.digest()


def test_every_task_has_a_model_whose_fields_are_described_and_come_back_from_yaml():
    steps = [{"name": "pretrain", "recipe": PRETRAIN}, {"name": "knn", "recipe": {"task": "knn"}}]
    given = {
        "chain": {"task": "chain", "name": "c", "steps": steps},
        "pretrain": PRETRAIN,
        "supervised": PRETRAIN | {"task": "supervised"},
    }
    for task, model in TASKS.items():
        schema = model.model_json_schema()
        assert schema["properties"]["task"]["default"] == task
        recipe = parse_recipe(given.get(task, {"task": task, "parent": "runs/p"}))
        assert type(recipe) is model and recipe.task == task
        text = yaml.safe_dump(recipe.model_dump(mode="json"))
        again = parse_recipe(yaml.safe_load(text))
        assert again == recipe and again.digest() == recipe.digest()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"task": "dream"}, "'dream' is not one of supervised, pretrain"),
        ({"task": "chain", "name": "c", "steps": []}, "steps"),
        (
            {"task": "chain", "name": "c", "steps": [{"name": "a", "recipe": {"task": "knn"}, "parent": "b"}]},
            "no earlier",
        ),
        ({"task": "chain", "name": "c", "steps": [{"name": "a", "recipe": {"task": "knn", "k": 0}}]}, "k: Input"),
        ({"task": "chain", "name": "c", "steps": [{"name": "a", "recipe": "nobody"}]}, "there is no recipe nobody"),
        ({"task": "knn", "parent": "x", "epochs": 3}, "epochs: there is no such field"),
        ({"task": "semi", "parent": "x", "fraction": 0}, "fraction"),
        ({"task": "semi", "parent": "x", "full_length": True, "repeat": 2}, "leave repeat at 1"),
        ({"task": "finetune", "parent": "x", "further_parents": ["y"]}, "further_parents"),
        (PRETRAIN | {"method": "dreams"}, "method"),
        (PRETRAIN | {"batch": 3, "devices": 2}, "shared evenly"),
    ],
)
def test_errors_name_the_field(data, message):
    with pytest.raises(RecipeError, match=message):
        parse_recipe(data)


def test_where_a_parent_lies_is_no_part_of_the_result():
    a, b = (parse_recipe({"task": "linear", "parent": parent}) for parent in ("here", "there"))
    assert a.digest() == b.digest()
    assert a.model_copy(update={"parents": [{"weights": "0"}]}).digest() != b.digest()
