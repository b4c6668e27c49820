"""Whether tests shall take the time to try everything: ``FLA_THOROUGH=1``."""

import os

THOROUGH = bool(os.environ.get("FLA_THOROUGH"))
