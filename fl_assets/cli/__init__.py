"""``fla``: the command line."""

from fl_assets.cli.app import main
from fl_assets.cli.output import Format, FormatOption

__all__ = ["Format", "FormatOption", "main"]
