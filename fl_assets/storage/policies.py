"""The rights that each identity has on a hospital's bucket, as IAM policies.

Terraform writes the same documents; a test compares the two. Everything not named is denied.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Policy = dict[str, Any]

MANIFESTS = (
    "records/intake.json",
    "records/manifest.json",
    "partitions/manifest.json",
    "profile/*",
    "egress/*",
    "ledger/*",
    "ledger-anchor.json",
)
"""What the coordinator may read: counts, hashes, and what left the hospital anyway."""

ROWS = (
    "incoming/*",
    "records/*.parquet",
    "partitions/*.parquet",
    "quarantine/*",
    "keys/*",
    "personal/*",
    "answers/*",
)
"""Keys of objects with rows, with models of a hospital's own, or with its secrets."""


def hospital_policy(bucket: str, prefix: str = "", kms_key: str | None = None) -> Policy:
    """Return what a hospital's role may do: every action of ``S3Store``, in its own store alone.

    Args:
        bucket: its name.
        prefix: of the store in the bucket; the whole bucket if empty.
        kms_key: ARN of the key of the objects (an alias is no resource of a policy).
    """
    listed = [_within(prefix, "*")] if prefix else []
    statements = [
        _allow("Bucket", ["s3:GetBucketVersioning"], _bucket(bucket)),
        _allow(
            "List", ["s3:ListBucket", "s3:ListBucketVersions"], _bucket(bucket), _prefixes(listed)
        ),
        # Of the whole bucket: AWS knows no prefix of this action, and a condition on one that is
        # not there is never met.
        _allow("Uploads", ["s3:ListBucketMultipartUploads"], _bucket(bucket)),
        _allow(
            "Objects",
            [
                "s3:GetObject",
                "s3:GetObjectVersion",
                "s3:PutObject",
                "s3:DeleteObject",
                "s3:DeleteObjectVersion",
                "s3:AbortMultipartUpload",
                "s3:ListMultipartUploadParts",
            ],
            _objects(bucket, prefix, ["*"]),
        ),
    ]
    if kms_key:
        # A multipart upload is decrypted when its parts are put together.
        statements.append(_allow("Key", ["kms:GenerateDataKey", "kms:Decrypt"], [kms_key]))
    return _policy(statements)


def coordinator_policy(bucket: str, prefix: str = "", kms_key: str | None = None) -> Policy:
    """Return what the coordinator's own identity may do: see uploads, read manifests.

    Rows are denied outright, so that no broader policy beside this one opens them. It may list
    the names of manifests as well: S3 answers a request for an object that is not there with a
    denial to whom may not list it.

    Args:
        bucket: its name.
        prefix: of the store in the bucket; the whole bucket if empty.
        kms_key: ARN of the key of the objects. It decrypts manifests alone, if the bucket has no
            S3 Bucket Key: with one, KMS is asked for the bucket instead of an object.
    """
    manifests = _objects(bucket, prefix, MANIFESTS)
    listed = [_within(prefix, pattern) for pattern in ("incoming/*", *MANIFESTS)]
    statements = [
        _allow("Bucket", ["s3:GetBucketVersioning"], _bucket(bucket)),
        _allow("List", ["s3:ListBucketVersions"], _bucket(bucket), _prefixes(listed)),
        _allow("Manifests", ["s3:GetObject"], manifests),
        {
            "Sid": "Rows",
            "Effect": "Deny",
            "Action": ["s3:GetObject", "s3:GetObjectVersion"],
            "Resource": _objects(bucket, prefix, ROWS),
        },
    ]
    if kms_key:
        context = {"StringLike": {"kms:EncryptionContext:aws:s3:arn": manifests}}
        statements.append(_allow("Key", ["kms:Decrypt"], [kms_key], context))
    return _policy(statements)


def task_policy(bucket: str, hospital: str, prefix: str = "", kms_key: str | None = None) -> Policy:
    """Return what a hospital's role may do in the coordinator's bucket: read its tasks, answer.

    It can ask for nothing, sees no other hospital's tasks, and lists not even its own, whose ids
    nobody can guess.

    Args:
        bucket: the coordinator's.
        hospital: name.
        prefix: of the coordinator's store in the bucket; the whole bucket if empty.
        kms_key: ARN of the key of the coordinator's objects.
    """
    tasks = _objects(bucket, prefix, [f"tasks/{hospital}/*"])
    answers = _objects(bucket, prefix, [f"tasks/{hospital}/*/answer.json"])
    statements = [
        _allow("Bucket", ["s3:GetBucketVersioning"], _bucket(bucket)),
        _allow("Requests", ["s3:GetObject"], tasks),
        _allow("Answers", ["s3:PutObject"], answers),
    ]
    if kms_key:
        context = {"StringLike": {"kms:EncryptionContext:aws:s3:arn": tasks}}
        statements.append(_allow("Key", ["kms:GenerateDataKey", "kms:Decrypt"], [kms_key], context))
    return _policy(statements)


def _allow(
    sid: str, actions: list[str], resources: list[str], condition: Mapping[str, Any] | None = None
) -> Policy:
    statement: Policy = {
        "Sid": sid,
        "Effect": "Allow",
        "Action": actions,
        "Resource": resources,
    }
    return {**statement, "Condition": condition} if condition else statement


def _policy(statements: list[Policy]) -> Policy:
    return {"Version": "2012-10-17", "Statement": statements}


def _bucket(bucket: str) -> list[str]:
    return [f"arn:aws:s3:::{bucket}"]


def _objects(bucket: str, prefix: str, patterns: tuple[str, ...] | list[str]) -> list[str]:
    return [f"arn:aws:s3:::{bucket}/{_within(prefix, pattern)}" for pattern in patterns]


def _within(prefix: str, pattern: str) -> str:
    return f"{prefix}/{pattern}" if prefix else pattern


def _prefixes(patterns: list[str]) -> Mapping[str, Any] | None:
    return {"StringLike": {"s3:prefix": patterns}} if patterns else None
