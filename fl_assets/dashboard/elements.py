"""Tables and plots of the reports as elements of a page, and questions to all hospitals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import pandas as pd
import streamlit as st

from fl_assets.coordinator.polling import poll
from fl_assets.reporting.html import Picture, Table, cell_text

Answer = TypeVar("Answer")

# For all hospitals together, so that one that hangs holds up no page.
SECONDS = 20.0


def show_table(table: Table) -> None:
    """Show a table under its caption."""
    st.markdown(f"**{table.caption}**")
    cells = [[cell_text(cell) for cell in row] for row in table.rows]
    st.dataframe(pd.DataFrame(cells, columns=list(table.columns)), hide_index=True)


def show_pictures(pictures: Sequence[Picture]) -> None:
    """Show plots side by side, two in a row."""
    columns = st.columns(2)
    for place, picture in enumerate(pictures):
        columns[place % 2].image(picture.png, caption=picture.alt)


def ask_hospitals(names: Sequence[str], question: Callable[[str], Answer]) -> dict[str, Answer]:
    """Return the hospitals' answers; of one that gives none, say why and go on.

    Args:
        names: of hospitals.
        question: reads a hospital's store as the coordinator.
    """

    polled = poll(names, question, SECONDS)
    for name in names:
        if name not in polled.answers:
            why = polled.failures.get(name, "no time was left for it")
            st.warning(f"{name} cannot be read: {why}")
    return {name: polled.answers[name] for name in names if name in polled.answers}
