"""What can go wrong between an operator's machine and the cluster."""

from fl_assets.errors import FlAssetsError


class DeploymentError(FlAssetsError):
    """Something on the way to the cluster, or in it, is not as it has to be."""
