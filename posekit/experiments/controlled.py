"""What controlled tests share: a verdict needs the effect where the mechanism is needed and a tie where it is not."""

from __future__ import annotations

from posekit.experiments.ledger import Cell

SHOWN, NOT_SHOWN = "mechanism shown", "mechanism not shown"


def verdict(effect: bool, *, tie: bool) -> str:
    """The word for a test with a control.

    Args:
        effect: the arms differ as the mechanism says, where it is needed.
        tie: they do not differ where it is not. Without that an effect may have any cause, and where nothing was
            learned no effect can show, so either way it decides nothing.
    """
    if not tie:
        return "undecided"
    return SHOWN if effect else NOT_SHOWN


def cell(
    name: str, measured: float, effect: bool, published: str = "", interval: tuple[float, float] | None = None
) -> Cell:
    """One comparison where the mechanism is needed."""
    return Cell(name, measured, SHOWN if effect else NOT_SHOWN, published, interval)


def control(name: str, measured: float, tie: bool, interval: tuple[float, float] | None = None) -> Cell:
    """One comparison where the mechanism is not needed: the tie is seen or not."""
    return Cell(f"control: {name}", measured, "seen" if tie else "not seen", "tie", interval)
