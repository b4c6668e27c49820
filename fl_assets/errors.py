"""The root of every exception that fl_assets raises on purpose.

Each cause has a type of its own beside the code that finds it. A message names the thing, the
value (never a patient's) and the cure.
"""


class FlAssetsError(Exception):
    """Something is wrong that the reader of the message can put right."""


class BadDataError(FlAssetsError):
    """The input is wrong and will be wrong again: retrying is pointless."""
