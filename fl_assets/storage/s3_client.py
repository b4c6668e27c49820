"""A client of S3, under a role if one is to be taken."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from fl_assets.storage.access import Access
from fl_assets.storage.s3_errors import EndpointUnreachableError

if TYPE_CHECKING:
    from botocore.credentials import Credentials
    from botocore.loaders import Loader
    from botocore.session import Session
    from mypy_boto3_s3 import S3Client

ATTEMPTS = 5


def make_client(access: Access) -> S3Client:
    """Return a client from the default credential chain or, beyond it, under ``access.role``.

    A role's credentials are fetched at the first request, and again a quarter of an hour before
    they end. They last an hour, which is all that AWS gives to a role that takes a role.

    Raises:
        EndpointUnreachableError: the endpoint in the environment is no URL.
        botocore.exceptions.BotoCoreError: of the configuration in the environment.
    """
    import boto3
    from botocore.config import Config
    from botocore.session import Session

    session = Session()
    session.register_component("data_loader", _service_models())
    retries = {"mode": "standard", "total_max_attempts": ATTEMPTS}
    # Of the session, so that requests to STS have them as well.
    session.set_default_client_config(
        Config(retries=retries, connect_timeout=5, read_timeout=60)  # type: ignore[arg-type]
    )
    try:
        found = boto3.Session(botocore_session=session, region_name=access.region)
        if access.role:
            session.register_component(
                "credential_provider", _RoleTaker(session, access.role, access.session)
            )
        return found.client("s3")
    except ValueError as error:
        raise EndpointUnreachableError(f"{error}: AWS_ENDPOINT_URL must be a URL") from error


@cache
def _service_models() -> Loader:
    """Shared by all clients: parsing them takes nine tenths of the time to make one."""
    from botocore.loaders import create_loader

    return create_loader()


class _RoleTaker:
    """Stands where a session keeps its credential chain: the chain's identity takes the role."""

    def __init__(self, session: Session, role: str, name: str) -> None:
        self._session = session
        self._role = role
        self._name = name
        self._chain = session.get_component("credential_provider")

    def load_credentials(self) -> Credentials:
        """What a session asks its credential chain for."""
        from botocore.credentials import (
            AssumeRoleCredentialFetcher,
            DeferredRefreshableCredentials,
        )
        from botocore.exceptions import NoCredentialsError

        own = self._chain.load_credentials()
        if own is None:
            raise NoCredentialsError
        fetcher = AssumeRoleCredentialFetcher(
            self._session.create_client, own, self._role, {"RoleSessionName": self._name}
        )
        return DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")
