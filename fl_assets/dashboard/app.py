"""The script that Streamlit runs anew for every look at a page."""

from __future__ import annotations

import streamlit as st

from fl_assets.dashboard import egress, models, overview, privacy, training
from fl_assets.errors import FlAssetsError
from fl_assets.settings import Settings

PAGES = {
    "Overview": overview.show,
    "Models": models.show,
    "Training": training.show,
    "Privacy": privacy.show,
    "Egress": egress.show,
}


def main() -> None:
    """Draw the page that was chosen; the others cost nothing."""
    st.set_page_config(page_title="Consortium", layout="wide")
    settings = Settings.from_environment()
    try:
        name = settings.consortium.name
        page = st.sidebar.radio("Page", PAGES, key="page")
        st.sidebar.button("Read anew")
        st.title(f"{name}: {page.lower()}")
        PAGES[page](settings)
    except FlAssetsError as error:
        st.error(str(error))


if __name__ == "__main__":
    main()
