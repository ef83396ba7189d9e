"""The recipe of a chain: a pretraining and the protocols that judge it, one after the other, as one object."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from engine.training.recipe_base import EXECUTION, BaseRecipe, RecipeError

# Fields of a chain that all of its steps share.
SHARED = ("seed", "threads", "accelerator", "devices", "nodes")


class ChainStep(BaseModel):
    """One run of a chain."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="Names the step and its folder.")
    recipe: dict[str, Any] = Field(
        description="Its recipe: fields, or the name of a recipe; of a protocol without its parent."
    )
    parent: str = Field(
        "", description="Earlier step, STEP or STEP:STREAM, whose encoder is judged; by default the first pretraining."
    )
    further_parents: list[str] = Field(default_factory=list, description="Encoders that are joined, as STEP:STREAM.")

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("recipe"), str):
            from engine.training.recipe import load_recipe

            try:
                found = load_recipe(values["recipe"])
            except RecipeError as error:
                raise ValueError(str(error)) from error
            return values | {"recipe": found.model_dump(mode="json")}
        return values


class ChainRecipe(BaseRecipe):
    """Several runs in a row; seed and place of execution are those of every step."""

    YOUNGER: ClassVar[dict[str, Any]] = {"together": {}}

    task: Literal["chain"] = "chain"
    dataset: Literal[""] = Field("", description="Every step has its own.")
    split: Literal[""] = Field("", description="Every step has its own.")
    batch: Literal[0] = Field(0, description="Every step has its own.")
    precision: Literal["fp32"] = Field("fp32", description="Every step has its own.")
    steps: list[ChainStep] = Field(min_length=1, description="Runs, in their order.")
    together: dict[str, list[str]] = Field(
        default_factory=dict,
        description="Steps whose classifiers are asked together at the end, by a name for them: the mean of their "
        "logits says the class (late fusion).",
    )

    @model_validator(mode="after")
    def _steps_fit(self) -> ChainRecipe:
        if self.nodes > 1:
            raise ValueError("nodes: a chain runs on one machine; on several, train its steps one by one")
        seen: list[str] = []
        for index, step in enumerate(self.steps):
            if step.name in seen:
                raise ValueError(f"steps.{index}: the name {step.name} comes twice")
            for parent in (step.parent, *step.further_parents):
                if parent and parent.partition(":")[0] not in seen:
                    raise ValueError(f"steps.{index}: {parent} is no earlier step")
            seen.append(step.name)
        for index in range(len(self.steps)):
            self.child(index, "parent")
        for name, members in self.together.items():
            unknown = [member for member in members if member not in seen]
            if unknown or len(members) < 2:
                what = f"{', '.join(unknown)} is no step" if unknown else "needs at least two steps"
                raise ValueError(f"together.{name}: {what}")
        return self

    def digest(self) -> str:
        """As of every recipe; where and how the steps are executed is left out too."""
        plain = self.model_copy(deep=True)
        for step in plain.steps:
            for name in EXECUTION:
                step.recipe.pop(name, None)
        return super(ChainRecipe, plain).digest()

    def parent_of(self, index: int) -> str:
        """``STEP`` or ``STEP:STREAM`` that a step starts from; empty for one that needs none."""
        step = self.steps[index]
        if step.parent or step.recipe.get("task", "supervised") in ("supervised", "pretrain"):
            return step.parent
        for earlier in self.steps[:index]:
            if earlier.recipe.get("task") == "pretrain":
                return earlier.name
        return ""

    def child(self, index: int, parent: str, further_parents: tuple[str, ...] = ()) -> BaseRecipe:
        """The recipe of a step, with the chain's seed and place, started from a parent (``RUN`` or ``RUN:STREAM``).

        Raises
        ------
        ValueError
            It does not validate.
        """
        from engine.training.recipe import parse_recipe

        step = self.steps[index]
        values = step.recipe | {name: getattr(self, name) for name in SHARED}
        values["name"] = f"{self.name}_{step.name}"
        if step.recipe.get("task", "supervised") not in ("supervised", "pretrain"):
            if not self.parent_of(index):
                # Baselines name their encoder themselves.
                parent = str(step.recipe.get("parent", ""))
            values["parent"], _, stream = parent.rpartition(":") if _has_stream(parent) else (parent, "", "")
            if stream:
                values["parent_stream"] = stream
            if further_parents:
                values["further_parents"] = list(further_parents)
        try:
            return parse_recipe(values)
        except RecipeError as error:
            raise ValueError(f"steps.{index} ({step.name}): {error}") from error


def _has_stream(parent: str) -> bool:
    return parent.rpartition(":")[2] in ("joint", "bone", "joint_motion", "bone_motion") and ":" in parent
