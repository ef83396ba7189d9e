"""Colours and style sheet of the window: calm palettes, fixed colours per person, contrast at least 4.5:1."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from string import Template

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QGuiApplication, QPalette
from PySide6.QtWidgets import QApplication, QWidget

_IMAGES = Path(__file__).resolve().parent / "images"
# Okabe and Ito's palette for colour-blind viewers; person 1 and 2 are orange and sky blue everywhere.
PERSON_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7")
ON_PERSON = "#101317"  # text laid on a person's colour


@dataclass(frozen=True)
class Theme:
    """Named colours of one theme, as ``#rrggbb``."""

    name: str
    background: str
    surface: str
    raised: str
    border: str
    text: str
    muted: str
    accent: str
    on_accent: str
    danger: str
    danger_surface: str
    info_surface: str
    stage: str  # behind the picture

    def colour(self, name: str) -> QColor:
        return QColor(getattr(self, name))


DARK = Theme(
    name="dark",
    background="#14171c",
    surface="#1b2027",
    raised="#262c36",
    border="#39424f",
    text="#e9edf2",
    muted="#a6b0bd",
    accent="#7cc0f5",
    on_accent="#0c1218",
    danger="#ff9a8f",
    danger_surface="#3a1f20",
    info_surface="#1c2c3a",
    stage="#0d1013",
)
LIGHT = Theme(
    name="light",
    background="#f3f5f7",
    surface="#ffffff",
    raised="#e8ecf1",
    border="#c6ced8",
    text="#171c23",
    muted="#525d6b",
    accent="#0b5c9c",
    on_accent="#ffffff",
    danger="#a11b12",
    danger_surface="#fbe6e3",
    info_surface="#e2eef8",
    stage="#dfe4ea",
)


def person_colour(person: int) -> QColor:
    """The fixed colour of a person id (1, 2, ...)."""
    return QColor(PERSON_COLOURS[(person - 1) % len(PERSON_COLOURS)])


def side_colour(person: int, side: str) -> QColor:
    """A person's colour for one side of the body: left lighter, right darker, so that sides differ in shade."""
    base = person_colour(person)
    if side == "left":
        return base.lighter(135)
    if side == "right":
        return base.darker(125)
    return base


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours after WCAG 2.1, 1 to 21."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    value = QColor(colour)
    parts = [value.redF(), value.greenF(), value.blueF()]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def resolve(choice: str) -> Theme:
    """``"dark"``, ``"light"``, or ``"system"``: what the desktop asks for, dark when it does not say."""
    if choice == "light":
        return LIGHT
    if choice == "dark":
        return DARK
    scheme = QGuiApplication.styleHints().colorScheme()
    return LIGHT if scheme == Qt.ColorScheme.Light else DARK


_current: Theme = DARK


def current() -> Theme:
    """The theme in force; painting code asks at every paint."""
    return _current


def apply(app: QApplication, choice: str) -> Theme:
    """Put a theme in force for the whole program and repaint everything."""
    global _current
    theme = resolve(choice)
    _current = theme
    sheet = style_sheet(theme)
    # Each of these dresses every widget anew, which is felt: nothing is set twice.
    if not app.styleSheet():
        app.setStyle("Fusion")
    if app.styleSheet() != sheet:
        app.setPalette(palette(theme))
        app.setStyleSheet(sheet)
    for window in app.topLevelWidgets():
        for widget in [window, *window.findChildren(QWidget)]:
            widget.update()
    return theme


def palette(theme: Theme) -> QPalette:
    """Qt palette for what the style sheet leaves to the Fusion style."""
    roles = QPalette.ColorRole
    result = QPalette()
    for role, name in (
        (roles.Window, "background"),
        (roles.WindowText, "text"),
        (roles.Base, "surface"),
        (roles.AlternateBase, "raised"),
        (roles.Text, "text"),
        (roles.Button, "raised"),
        (roles.ButtonText, "text"),
        (roles.ToolTipBase, "raised"),
        (roles.ToolTipText, "text"),
        (roles.PlaceholderText, "muted"),
        (roles.Highlight, "accent"),
        (roles.HighlightedText, "on_accent"),
        (roles.Link, "accent"),
        (roles.BrightText, "danger"),
        (roles.Accent, "accent"),
    ):
        result.setColor(role, theme.colour(name))
    for role in (roles.WindowText, roles.Text, roles.ButtonText):
        result.setColor(QPalette.ColorGroup.Disabled, role, theme.colour("muted"))
    return result


_STYLE = Template("""
* { font-size: 13px; }
QToolTip { background: $raised; color: $text; border: 1px solid $border; padding: 4px 6px; }
QLabel { background: transparent; }
QLabel[role="muted"] { color: $muted; }
QLabel[role="error"] { color: $danger; }
QLabel[changed="true"] { color: $accent; font-weight: 600; }
QLabel[role="title"] { font-size: 20px; font-weight: 600; }
QLabel[role="section"] { font-size: 15px; font-weight: 600; }
QLabel[role="numbers"] { color: $muted; }
#rail { background: $surface; border-right: 1px solid $border; }
#rail QToolButton { border: none; border-left: 3px solid transparent; border-radius: 0; padding: 8px 2px 6px 0px;
  color: $muted; font-size: 11px; background: transparent; }
#rail QToolButton:hover { background: $raised; color: $text; }
#rail QToolButton:checked { color: $text; border-left: 3px solid $accent; background: $raised; }
#rail QToolButton:focus { background: $raised; border: 2px solid $accent; }
#topBar { background: $surface; border-bottom: 1px solid $border; }
#stageBar { background: $surface; border-top: 1px solid $border; }
#side { background: $background; }
QPushButton, QToolButton { background: $raised; color: $text; border: 1px solid $border; border-radius: 5px;
  padding: 5px 12px; }
QToolButton { padding: 5px 9px; }
QToolButton[menuButton="true"] { padding-right: 22px; text-align: left; }
QPushButton:hover, QToolButton:hover { border-color: $accent; }
QPushButton:pressed, QToolButton:pressed { background: $border; }
QPushButton:focus, QToolButton:focus { border: 2px solid $accent; padding: 4px 11px; }
QToolButton:focus { padding: 4px 8px; }
QToolButton[menuButton="true"]:focus { padding-right: 21px; }
QPushButton:disabled, QToolButton:disabled { color: $muted; background: $background; }
QPushButton[primary="true"] { background: $accent; color: $on_accent; border-color: $accent; font-weight: 600; }
QPushButton[primary="true"]:hover { border-color: $text; }
QPushButton[primary="true"]:focus { border: 2px solid $text; }
QPushButton[primary="true"]:disabled { background: $raised; color: $muted; border-color: $border; }
QToolButton:checked { background: $accent; color: $on_accent; border-color: $accent; }
QToolButton:checked:focus { border: 2px solid $text; }
QToolButton[recording="true"] { background: $danger_surface; color: $danger; border-color: $danger; }
QToolButton::menu-indicator { subcontrol-position: right center; subcontrol-origin: padding; right: 7px; }
QMenu { background: $surface; color: $text; border: 1px solid $border; padding: 5px; }
QMenu::item { padding: 6px 26px 6px 12px; border-radius: 4px; }
QMenu::item:selected { background: $accent; color: $on_accent; }
QMenu::item:disabled { color: $muted; }
QMenu::separator { height: 1px; background: $border; margin: 5px 8px; }
QMenu::section { color: $muted; }
QLineEdit { background: $surface; color: $text; border: 1px solid $border; border-radius: 5px; padding: 5px 8px;
  selection-background-color: $accent; selection-color: $on_accent; }
QLineEdit:focus { border: 2px solid $accent; padding: 4px 7px; }
QTextBrowser { background: $surface; color: $text; border: none; }
QPlainTextEdit { background: $background; color: $text; border: 1px solid $border; border-radius: 5px;
  font-family: monospace; }
QTableView { background: $surface; alternate-background-color: $background; color: $text; border: 1px solid $border;
  border-radius: 5px; gridline-color: $border; selection-background-color: $accent; selection-color: $on_accent;
  outline: none; }
QTableView:focus { border: 2px solid $accent; }
QTableView::item { padding: 4px 8px; }
QHeaderView { background: $raised; }
QHeaderView::section { background: $raised; color: $text; border: none; border-right: 1px solid $border;
  border-bottom: 1px solid $border; padding: 6px 8px; font-weight: 600; }
QTableCornerButton::section { background: $raised; border: none; }
QSplitter::handle { background: transparent; }
QTabWidget::pane { border: none; border-top: 1px solid $border; }
QTabBar { background: transparent; }
QTabBar::tab { background: transparent; color: $muted; border: none; border-bottom: 3px solid transparent;
  padding: 7px 14px; margin-right: 2px; }
QTabBar::tab:hover { color: $text; }
QTabBar::tab:selected { color: $text; border-bottom: 3px solid $accent; font-weight: 600; }
QTabBar:focus::tab:selected, QTabBar::tab:selected:focus { background: $raised; }
QComboBox, QSpinBox, QDoubleSpinBox { background: $raised; color: $text; border: 1px solid $border;
  border-radius: 5px; padding: 4px 8px; selection-background-color: $accent; selection-color: $on_accent; }
QComboBox:hover, QSpinBox:hover, QDoubleSpinBox:hover { border-color: $accent; }
QComboBox:focus, QSpinBox:focus, QDoubleSpinBox:focus { border: 2px solid $accent; padding: 3px 7px; }
QComboBox:disabled, QSpinBox:disabled, QDoubleSpinBox:disabled { color: $muted; background: $background; }
QComboBox::drop-down { border: none; width: 24px; }
QComboBox::down-arrow { image: url($images/down_$name.svg); width: 12px; height: 12px; }
QComboBox QAbstractItemView { background: $surface; color: $text; border: 1px solid $border; outline: none;
  selection-background-color: $accent; selection-color: $on_accent; }
QSpinBox::up-button, QDoubleSpinBox::up-button { border: none; background: transparent; width: 22px; }
QSpinBox::down-button, QDoubleSpinBox::down-button { border: none; background: transparent; width: 22px; }
QSpinBox::up-arrow, QDoubleSpinBox::up-arrow { image: url($images/up_$name.svg); width: 10px; height: 10px; }
QSpinBox::down-arrow, QDoubleSpinBox::down-arrow { image: url($images/down_$name.svg); width: 10px; height: 10px; }
QCheckBox { spacing: 8px; }
QCheckBox::indicator { width: 16px; height: 16px; border: 1px solid $muted; border-radius: 4px; background: $raised; }
QCheckBox::indicator:hover { border-color: $accent; }
QCheckBox::indicator:checked { background: $accent; border-color: $accent; image: url($images/check_$name.svg); }
QCheckBox:focus { color: $accent; }
QCheckBox::indicator:focus { border: 2px solid $text; }
QProgressBar { background: $raised; border: 1px solid $border; border-radius: 5px; max-height: 10px; }
QProgressBar::chunk { background: $accent; border-radius: 4px; }
QSlider::groove:horizontal { background: $raised; border: 1px solid $border; height: 6px; border-radius: 3px; }
QSlider::sub-page:horizontal { background: $accent; border-radius: 3px; }
QSlider::handle:horizontal { background: $text; width: 14px; height: 14px; margin: -5px 0; border-radius: 7px; }
QSlider::handle:horizontal:hover { background: $accent; }
QSlider:focus { border: 2px solid $accent; border-radius: 6px; }
QSlider::handle:horizontal:disabled, QSlider::sub-page:horizontal:disabled { background: $border; }
QListView { background: $surface; color: $text; border: 1px solid $border; border-radius: 5px; outline: none; }
QListView:focus { border: 2px solid $accent; }
QToolButton[tab="true"] { background: transparent; border: none; border-bottom: 2px solid transparent; border-radius: 0;
  padding: 6px 12px; color: $muted; }
QToolButton[tab="true"]:hover { color: $text; }
QToolButton[tab="true"]:checked { color: $text; background: transparent; border-bottom: 2px solid $accent; }
QToolButton[tab="true"]:focus { border: 2px solid $accent; padding: 4px 10px; border-radius: 5px; }
QToolButton[quiet="true"] { background: transparent; border-color: transparent; color: $muted; padding: 4px 9px; }
QToolButton[quiet="true"]:hover { color: $text; border-color: $border; }
QToolButton[quiet="true"]:focus { color: $text; border: 2px solid $accent; padding: 3px 8px; }
QToolButton[quiet="true"]:disabled { background: transparent; border-color: transparent; }
QToolButton[quiet="true"]::menu-indicator { image: none; }
QScrollArea { border: none; background: transparent; }
QScrollBar { background: transparent; }
QScrollBar:vertical { width: 11px; margin: 0; }
QScrollBar:horizontal { height: 11px; margin: 0; }
QScrollBar::handle { background: $border; border-radius: 4px; margin: 2px; }
QScrollBar::handle:vertical { min-height: 28px; }
QScrollBar::handle:horizontal { min-width: 28px; }
QScrollBar::handle:hover { background: $muted; }
QScrollBar::add-line, QScrollBar::sub-line { height: 0; width: 0; }
QScrollBar::add-page, QScrollBar::sub-page { background: transparent; }
QFrame[banner="error"] { background: $danger_surface; border: 1px solid $danger; border-radius: 6px; }
QFrame[banner="error"] QLabel { color: $text; }
QFrame[banner="error"], QFrame[banner="info"] { margin: 6px 0; }
QFrame[banner="info"] { background: $info_surface; border: 1px solid $border; border-radius: 6px; }
QFrame[card="true"] { background: $surface; border: 1px solid $border; border-radius: 8px; }
QFrame[drop="true"], QListView[drop="true"] { border: 2px solid $accent; }
""")


def style_sheet(theme: Theme) -> str:
    """The program's style sheet in a theme's colours."""
    return _STYLE.substitute(theme.__dict__, images=_IMAGES.as_posix())
