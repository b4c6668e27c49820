"""The one message that kubectl sends in nothing but protobuf: ``kubectl auth can-i``."""

from __future__ import annotations

from fl_assets_tests.cluster.fakekube.errors import ApiError
from fl_assets_tests.cluster.fakekube.kinds import ACCESS_REVIEW, Manifest

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\0"
# Numbers of fields in Kubernetes' generated.proto files.
ENVELOPE_RAW = 2
REVIEW_SPEC = 2
SPEC_RESOURCE = 1
ATTRIBUTES = {1: "namespace", 2: "verb", 3: "group", 5: "resource", 6: "subresource", 7: "name"}
LENGTH_DELIMITED = 2


def access_review(data: bytes) -> Manifest:
    """Return a SelfSubjectAccessReview; 415 for anything else, which kubectl sends as JSON."""
    if not data.startswith(MAGIC) or ACCESS_REVIEW.name.encode() not in data:
        raise ApiError(415, "fakekube reads JSON, and of protobuf access reviews alone")
    review = _fields(_fields(data[len(MAGIC) :])[ENVELOPE_RAW])
    asked = _fields(_fields(review[REVIEW_SPEC])[SPEC_RESOURCE])
    attributes = {
        name: asked[number].decode() for number, name in ATTRIBUTES.items() if number in asked
    }
    return {
        "apiVersion": ACCESS_REVIEW.api_version,
        "kind": ACCESS_REVIEW.name,
        "metadata": {},
        "spec": {"resourceAttributes": attributes},
    }


def _fields(message: bytes) -> dict[int, bytes]:
    """Return the fields of a message that has strings and messages alone."""
    found, place = {}, 0
    while place < len(message):
        tag, place = _number(message, place)
        if tag & 7 != LENGTH_DELIMITED:
            raise ApiError(415, "fakekube does not know this message")
        length, place = _number(message, place)
        found[tag >> 3] = message[place : place + length]
        place += length
    return found


def _number(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
