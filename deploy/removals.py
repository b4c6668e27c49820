"""Refuse a plan of Terraform that removes a bucket with something in it.

    terraform -chdir=terraform/main show -json main.tfplan | python3 -m deploy.removals

S3 refuses as well, but too late: a bucket's policy, its encryption and the roles beside it are gone
by then. Needs nothing but Python and the AWS command line. Exit code 1 if a bucket is not empty, or
does not say so.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any


def removed(plan: dict[str, Any]) -> Iterator[str]:
    """Yield the buckets that a plan removes, but for those that Terraform is told to empty."""
    for each in plan.get("resource_changes", []):
        change = each["change"]
        if each["type"] == "aws_s3_bucket" and "delete" in change["actions"]:
            before = change["before"]
            if not before.get("force_destroy"):
                yield before["bucket"]


def problem(bucket: str) -> str | None:
    """Return why a bucket must not be removed; nothing if it is empty, or gone already."""
    # An object that was deleted is still there as a version.
    command = ["aws", "s3api", "list-object-versions", "--bucket", bucket, "--max-items", "1"]
    done = subprocess.run([*command, "--output", "json"], capture_output=True, text=True)
    if done.returncode:
        return None if "NoSuchBucket" in done.stderr else done.stderr.strip()
    found = json.loads(done.stdout.strip() or "{}")
    if found.get("Versions") or found.get("DeleteMarkers"):
        return "it is not empty: docs/runbooks/remove-a-hospital.md says who empties it, and how"
    return None


def main() -> None:
    """Read the plan from standard input."""
    try:
        plan = json.load(sys.stdin)
    except json.JSONDecodeError:
        sys.exit("no plan on standard input: `terraform show -json` failed, or was left out")
    problems = {bucket: problem(bucket) for bucket in removed(plan)}
    for bucket, why in problems.items():
        print(f"removal of {bucket}: {why or 'empty'}", file=sys.stderr if why else sys.stdout)
    sys.exit(1 if any(problems.values()) else 0)


if __name__ == "__main__":
    main()
