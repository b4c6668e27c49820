"""Why S3 refused: one exception type per cause, each with its cure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fl_assets.storage.base import AccessDeniedError, StorageError

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError, ClientError


class BucketNotFoundError(StorageError):
    """There is no bucket of that name."""


class WrongRegionError(StorageError):
    """The bucket is in another region than the one the client signs for."""


class CredentialsMissingError(StorageError):
    """No complete credentials: none in the default credential chain, or a token file is gone."""


class CredentialsRefusedError(StorageError):
    """The credentials, or the token that they are got for, are expired, unknown or wrong."""


class RoleRefusedError(AccessDeniedError):
    """This process's identity may not take the hospital's role."""


class KeyRefusedError(AccessDeniedError):
    """The key that objects are encrypted with is not there, or not for this identity."""


class VersioningOffError(StorageError):
    """The bucket would overwrite objects instead of keeping their versions."""


class EndpointUnreachableError(StorageError):
    """No answer, or half an answer, from the S3 endpoint, retries included."""


_NO_BUCKET = "create it (terraform/) or correct consortium.yaml"
_DENIED = "let this hospital's role do that, or open the store as the right hospital"
_REGION = "set `region` in consortium.yaml, or AWS_REGION, to the bucket's region"
_ROLE = (
    "name this process's identity in the role's trust policy, or correct `role` in consortium.yaml"
)
_KEY = (
    "let the role use the key (kms:GenerateDataKey, kms:Decrypt), or correct `kms_key` in "
    "consortium.yaml"
)
_REFUSED = "renew the credentials or, for signatures and times, check key and clock"
_MISSING = "give the process a role, or set AWS_PROFILE or AWS_ACCESS_KEY_ID and its secret"
_UNREACHABLE = "check the network and AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL"
_OTHER = "see the error code in the S3 documentation"

_TAKING_ROLES = {"AssumeRole", "AssumeRoleWithWebIdentity"}

# By error code; a HEAD has no body and so only its status as code.
_ANSWERS: dict[str, tuple[type[StorageError], str]] = {
    **dict.fromkeys(("NoSuchBucket", "404"), (BucketNotFoundError, _NO_BUCKET)),
    **dict.fromkeys(("AccessDenied", "AllAccessDisabled", "403"), (AccessDeniedError, _DENIED)),
    **dict.fromkeys(
        ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException",
         "301"),
        (WrongRegionError, _REGION),
    ),
    **dict.fromkeys(
        ("ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId",
         "SignatureDoesNotMatch", "RequestTimeTooSkewed", "InvalidClientTokenId",
         "ExpiredTokenException", "InvalidIdentityToken", "IDPRejectedClaim"),
        (CredentialsRefusedError, _REFUSED),
    ),
}  # fmt: skip


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn an error of boto3 inside the block into one with a cause and a cure.

    Raises:
        StorageError: of the type of the cause.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        raise _answer(uri, error) from error
    except BotoCoreError as error:
        raise _no_answer(uri, error) from error
    except FileNotFoundError as error:
        # botocore reads the token of a web identity itself.
        raise CredentialsMissingError(f"{uri}: {error}; {_MISSING}") from error


def _answer(uri: str, error: ClientError) -> StorageError:
    code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
    kind, cure = _ANSWERS.get(code, (StorageError, _OTHER))
    # S3 passes on the refusal of the key, which names the action that was refused.
    if code.startswith("KMS.") or (kind is AccessDeniedError and "kms:" in message):
        kind, cure = KeyRefusedError, _KEY
    elif kind is AccessDeniedError and error.operation_name in _TAKING_ROLES:
        kind, cure = RoleRefusedError, _ROLE
    return kind(f"{uri}: {error.operation_name} failed with {code} ({message}); {cure}")


def _no_answer(uri: str, error: BotoCoreError) -> StorageError:
    from botocore import exceptions as boto

    kind, cure = StorageError, "correct the store's name or boto3's configuration"
    if isinstance(
        error,
        boto.NoCredentialsError
        | boto.PartialCredentialsError
        | boto.ProfileNotFound
        | boto.CredentialRetrievalError,
    ):
        kind, cure = CredentialsMissingError, _MISSING
    elif isinstance(error, boto.NoRegionError):
        kind, cure = WrongRegionError, _REGION
    elif isinstance(error, boto.TokenRetrievalError | boto.SSOError):
        kind, cure = CredentialsRefusedError, _REFUSED
    elif isinstance(error, boto.ConnectionError | boto.HTTPClientError | boto.IncompleteReadError):
        kind, cure = EndpointUnreachableError, _UNREACHABLE
    return kind(f"{uri}: {error}; {cure}")
