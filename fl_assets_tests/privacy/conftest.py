"""A real S3 server for the ledger."""

from fl_assets_tests.storage.conftest import make_bucket, s3_endpoint

__all__ = ["make_bucket", "s3_endpoint"]
