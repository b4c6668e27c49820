"""As whom a bucket is opened, and how its objects are encrypted."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fl_assets.config import StrictModel

SESSION_LENGTH = 64  # letters that STS allows


class Access(StrictModel):
    """How to open a bucket on S3; a folder has the rights of its operating system alone.

    Attributes:
        role: ARN of the role to take (STS AssumeRole). If None, boto3's default credential chain
            is used as it is, which in a pod on EKS is the web identity of its service account.
        session: name of the role's sessions in AWS' audit trail.
        kms_key: ARN or alias of the key of every object written (SSE-KMS); the bucket's default
            encryption if None.
        region: of the bucket; the environment's if None.
    """

    role: str | None = None
    session: Annotated[str, Field(max_length=SESSION_LENGTH)] = "fl-assets"
    kms_key: str | None = None
    region: str | None = None


ANYBODY = Access()
"""As whoever the process is."""
