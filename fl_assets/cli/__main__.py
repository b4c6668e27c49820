"""``python -m fl_assets.cli``, where ``fla`` is not on the path."""

from fl_assets.cli.app import main

main()
