"""Fetching one file of a public data set from Kaggle."""

from __future__ import annotations

from pathlib import Path

from fl_assets.errors import FlAssetsError

TOKEN_PAGE = "https://www.kaggle.com/settings/api"  # noqa: S105 - the address where one gets it


class KaggleCredentialsMissingError(FlAssetsError):
    """Kaggle's client would find no usable credentials; nothing was asked of Kaggle."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"{reason}: create an API token at {TOKEN_PAGE} and put its kaggle.json into ~/.kaggle "
            "(or set KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY), or download the file in "
            "a browser and use DATA=path/to/file.csv"
        )


class KaggleDownloadError(FlAssetsError):
    """Kaggle did not deliver the file."""


class KaggleCredentialsRefusedError(KaggleDownloadError):
    """Kaggle answered 401 or 403."""


def download(handle: str, file: str) -> bytes:
    """Return a file of a data set, through kagglehub's cache (``KAGGLEHUB_CACHE``).

    Args:
        handle: ``owner/dataset``, or ``owner/dataset/versions/N`` to pin the version.
        file: its name in the data set.

    Raises:
        KaggleCredentialsMissingError: found before anything is asked of Kaggle.
        KaggleDownloadError: Kaggle refused, failed or could not be reached.
    """
    _check_credentials()
    import kagglehub
    import requests
    from kagglehub.exceptions import DataCorruptionError

    try:
        data = Path(kagglehub.dataset_download(handle, file)).read_bytes()
    except requests.HTTPError as error:
        raise _refusal(f"{handle}, {file}", error.response.status_code) from error
    except (requests.RequestException, DataCorruptionError, OSError, ValueError) as error:
        raise KaggleDownloadError(
            f"{handle}, {file}: no download from Kaggle ({type(error).__name__}); check network, "
            "proxy and disk, or use DATA=path/to/file.csv"
        ) from error
    if not data:
        raise KaggleDownloadError(f"{handle}, {file}: Kaggle sent an empty file; try later")
    return data


def _check_credentials() -> None:
    from kagglehub.config import get_kaggle_credentials

    try:
        # Looks at the environment and at files alone, as the client will.
        found = get_kaggle_credentials()
    except OSError as error:
        # Not chained: a long KAGGLE_API_TOKEN is tried as a file name, and printed as one.
        raise KaggleCredentialsMissingError(
            f"Kaggle credentials cannot be read ({error.strerror})"
        ) from None
    except ValueError as error:
        raise KaggleCredentialsMissingError(str(error)) from error
    if found is None:
        raise KaggleCredentialsMissingError("no Kaggle credentials were found")


def _refusal(what: str, status: int) -> KaggleDownloadError:
    if status in {401, 403}:
        return KaggleCredentialsRefusedError(
            f"{what}: Kaggle refused the credentials (HTTP {status}); renew the token at "
            f"{TOKEN_PAGE}, or use DATA=path/to/file.csv"
        )
    return KaggleDownloadError(
        f"{what}: Kaggle answered HTTP {status}; check kaggle: in the cohort's YAML, or try later"
    )
