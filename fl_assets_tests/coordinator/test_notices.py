"""Messages about objects become names of hospitals."""

from fl_assets.coordinator.notices import hospitals_of
from fl_assets.storage.queue import Notice

URIS = {"a": "s3://bucket-a", "b": "s3://shared/b", "bb": "s3://shared/bb", "f": "file:///f"}


def notice(*objects: tuple[str, str]) -> Notice:
    return Notice(objects, "receipt")


def test_each_hospital_is_named_once_and_strangers_not_at_all() -> None:
    notices = [
        notice(("shared", "b/incoming/x.csv"), ("bucket-a", "incoming/x y.csv")),
        notice(("bucket-a", "incoming/x y.csv")),
        notice(("bucket-a", "records/manifest.json"), ("stranger", "incoming/x.csv")),
        notice(("shared", "incoming/x.csv"), ("shared", "b")),
        notice(),
    ]
    assert hospitals_of(notices, URIS) == ["b", "a"]
