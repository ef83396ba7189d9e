"""A comparison as the engine reports it, with the words the window needs."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

from skelapp import theme
from skelapp.live.action_card import readable
from skelapp.models.colours import LETTERS, model_colour
from skelapp.widgets import rich_table

UNKNOWN = "–"


def percent(value: float | None, digits: int = 1) -> str:
    return UNKNOWN if value is None else f"{100 * value:.{digits}f} %"


def points(value: float | None) -> str:
    """A difference of accuracies in percentage points, with its sign."""
    if value is None:
        return UNKNOWN
    return "0.0" if abs(value) < 0.0005 else f"{100 * value:+.1f}".replace("-", "\N{MINUS SIGN}")


@dataclass(frozen=True)
class Report:
    """What ``compare --json`` printed."""

    values: dict[str, Any]

    @property
    def models(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.values["models"]
        return found

    @property
    def classes(self) -> list[str]:
        found: list[str] = self.values["classes"]
        return found

    @property
    def labels(self) -> list[int]:
        found: list[int] = self.values["sequences"]["labels"]
        return found

    @property
    def pairs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.values["pairs"]
        return found

    @property
    def first_pair(self) -> dict[str, Any]:
        return self.pairs[0]

    def answer(self, model: int, sequence: int) -> str:
        """The class a checkpoint named for a sequence."""
        said = self.models[model]["predicted"][sequence]
        return readable(self.classes[said]) if said < len(self.classes) else "a class the others don't know"

    def sequence_words(self, sequence: int) -> str:
        """One sequence: its name, its class, and what everybody said with which score."""
        true = self.labels[sequence]
        parts = [f"{self.values['sequences']['names'][sequence]}: {readable(self.classes[true])}."]
        for number, model in enumerate(self.models):
            right = model["predicted"][sequence] == true
            verdict = "right" if right else f"says {self.answer(number, sequence)}"
            parts.append(f"{LETTERS[number]} {verdict}, {model['score'][sequence]:.2f}.")
        return "  ".join(parts)

    def cell_words(self, model: int, true: int, said: int) -> str:
        """One cell of a confusion matrix."""
        row = self.models[model]["confusion"][true]
        named = readable(self.classes[said]) if said < len(self.classes) else "another class"
        total = sum(row)
        share = f", {percent(row[said] / total)}" if total else ""
        return f"{LETTERS[model]}: {readable(self.classes[true])} named {named}: {row[said]} of {total}{share}"

    # ------------------------------------------------------------ overview

    def overview(self) -> str:
        """The page of the first tab."""
        where = f"{self.values['dataset']} {self.values['split']}"
        head = f"<p>{self.values['count']} test sequences of {escape(where)}, {len(self.classes)} classes.</p>"
        return head + self._models_table() + self._pair_words() + self._speed_table() + self._notes()

    def _models_table(self) -> str:
        rows = []
        for number, model in enumerate(self.models):
            against = UNKNOWN
            for pair in self.pairs:
                if pair["a"] == 0 and pair["b"] == number:
                    against = f"{points(pair['accuracy_difference'])}"
            rows.append(
                f"<tr><td>{mark(number)}&nbsp; {escape(model['title'])}</td>"
                + "".join(
                    f"<td align='right'>{value}</td>"
                    for value in (
                        percent(model["top1"]), against, f"{model['calibration_error']:.3f}",
                        f"{model['mean_score']:.2f}",
                    )
                )
                + "</tr>"
            )  # fmt: skip
        names = ("Accuracy", "Against A", "Calibration error", "Mean score")
        heads = "".join(f"<th align='right'>{name}</th>" for name in names)
        head = f"<tr><th align='left'>Checkpoint</th>{heads}</tr>"
        return rich_table(head + "".join(rows), "Accuracy and calibration", 5)

    def _pair_words(self) -> str:
        parts = ["<h3>Agreement</h3>"]
        for pair in self.pairs:
            a, b = LETTERS[pair["a"]], LETTERS[pair["b"]]
            chance = pair["p_value"]
            verdict = "so uneven a split is hardly chance" if chance < 0.05 else "so uneven a split may well be chance"
            if pair["only_a_right"] == pair["only_b_right"]:
                verdict = "neither is ahead"
            parts.append(
                f"<p>{mark(pair['a'])} and {mark(pair['b'])} give the same answer on {percent(pair['agreement'])} "
                f"(kappa {pair['kappa']:.2f}). Both are right on {pair['both_right']}, only {a} on "
                f"{pair['only_a_right']}, only {b} on {pair['only_b_right']}, neither on {pair['both_wrong']}; "
                f"{verdict} (exact McNemar test, p = {chance:.2g}).</p>"
            )
        return "".join(parts)

    def _speed_table(self) -> str:
        rows = "".join(
            f"<tr><td>{mark(row['checkpoint'])}&nbsp; {escape(row['runtime'])}</td>"
            f"<td align='right'>{row['p50_ms']:.1f}</td><td align='right'>{row['p95_ms']:.1f}</td>"
            f"<td align='right'>{size_words(row['bytes'])}</td></tr>"
            for row in self.values.get("speed", [])
        )
        if not rows:
            return ""
        heads = "".join(f"<th align='right'>{name}</th>" for name in ("ms a clip", "95 % below", "Size"))
        missing = sorted({row["kind"] for row in self.values.get("not_here", [])})
        rest = f"<p>Not set up for all of them here: {escape(', '.join(missing))}.</p>" if missing else ""
        head = f"<tr><th align='left'>One clip, one thread, calls in turns</th>{heads}</tr>"
        return rich_table(head + rows, "Speed here", 5) + rest

    def _notes(self) -> str:
        notes = self.values.get("notes", [])
        if not notes:
            return ""
        return "<h3>To read with it</h3>" + "".join(f"<p>{escape(note)}.</p>" for note in notes)


def mark(number: int) -> str:
    """A checkpoint's letter in its colour."""
    return f"<b style='color:{model_colour(number).name()}'>{LETTERS[number]}</b>"


def size_words(size: int | None) -> str:
    return UNKNOWN if size is None else f"{size / 1e6:.1f} MB"


def muted() -> str:
    return theme.current().muted
