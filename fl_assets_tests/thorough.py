"""Whether tests shall take the time to try everything: ``FLA_THOROUGH=1``."""

import os

import pytest

THOROUGH = bool(os.environ.get("FLA_THOROUGH"))

only_thorough = pytest.mark.skipif(not THOROUGH, reason="takes long: FLA_THOROUGH=1 runs it")
