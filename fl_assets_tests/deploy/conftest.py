"""What the deployment is verified on."""

from fl_assets_tests.storage.conftest import web_hospitals

__all__ = ["web_hospitals"]
