import re

import pytest
import yaml

from fl_assets_tests.infra.tool import ROOT

FILES = sorted((ROOT / ".github/workflows").glob("*.yml"))


def load(path):
    # YAML 1.1 reads the key `on` as true.
    return yaml.safe_load(path.read_text().replace("\non:", "\n'on':"))


WORKFLOWS = {path.stem: load(path) for path in FILES}
JOBS = [(name, key, job) for name, flow in WORKFLOWS.items() for key, job in flow["jobs"].items()]
each_job = pytest.mark.parametrize(("name", "key", "job"), JOBS, ids=lambda value: str(value)[:20])


def test_there_is_one_for_each_purpose():
    assert set(WORKFLOWS) == {"test", "images", "infra", "deploy"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_action_is_pinned_by_commit_with_its_version(path):
    for line in path.read_text().splitlines():
        if "uses:" in line and "./.github/" not in line:
            assert re.fullmatch(r"[- ]+uses: [\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)


def test_one_action_has_one_commit():
    pins = {}
    for path in FILES:
        for action, commit in re.findall(r"uses: ([\w./-]+)@([0-9a-f]{40})", path.read_text()):
            pins.setdefault(action, set()).add(commit)
    assert [action for action, commits in pins.items() if len(commits) > 1] == []


@each_job
def test_a_job_has_the_rights_that_it_names_and_no_others(name, key, job):
    assert WORKFLOWS[name]["permissions"] == {}
    rights = job["permissions"]
    assert rights.keys() <= {"contents", "id-token"}
    assert rights["contents"] == "read"
    takes_role = "configure-aws-credentials" in str(job) or "uses" in job
    assert ("id-token" in rights) == takes_role


@each_job
def test_no_script_takes_an_expression(name, key, job):
    # What others may choose the name of would be run.
    for step in job.get("steps", []):
        assert "${{" not in step.get("run", "")


def test_nothing_but_tests_runs_on_a_pull_request():
    on_request = {name for name, flow in WORKFLOWS.items() if "pull_request" in flow["on"]}
    assert on_request == {"test"}
    assert not [name for name, flow in WORKFLOWS.items() if "pull_request_target" in flow["on"]]


def test_no_key_of_aws_is_kept_by_github():
    for path in FILES:
        assert "secrets." not in path.read_text()
        assert "aws-access-key-id" not in path.read_text()


def test_what_changes_the_account_or_the_cluster_is_protected():
    # The environment's name is in the roles' trust.
    default = re.search(
        r'variable "github_environment".*?default\s*=\s*"(\w+)"',
        (ROOT / "terraform/bootstrap/variables.tf").read_text(),
        re.DOTALL,
    )
    assert default
    for name, key in (("infra", "change"), ("deploy", "deploy")):
        job = WORKFLOWS[name]["jobs"][key]
        assert job["environment"] == default[1]
        assert "github.ref == 'refs/heads/main'" in job["if"]


def test_terraform_runs_by_hand_alone_and_plans_unless_told_otherwise():
    assert set(WORKFLOWS["infra"]["on"]) == {"workflow_dispatch"}
    action = WORKFLOWS["infra"]["on"]["workflow_dispatch"]["inputs"]["action"]
    assert action["options"] == ["plan", "apply", "destroy"]
    assert action["default"] == "plan"


def test_what_is_applied_is_the_plan_that_was_approved():
    change = WORKFLOWS["infra"]["jobs"]["change"]
    assert change["needs"] == "plan"
    steps = change["steps"]
    assert any("download-artifact" in step.get("uses", "") for step in steps)
    script = steps[-1]["run"]
    assert script.index("deploy.removals") < script.index("apply -input=false main.tfplan")
    assert not [path.name for path in FILES if "auto-approve" in path.read_text()]


def test_a_cluster_is_not_destroyed_under_a_deployment():
    groups = {name: flow["concurrency"]["group"] for name, flow in WORKFLOWS.items()}
    assert groups["infra"] == groups["deploy"] == "production"
    for name in ("infra", "deploy", "images"):
        assert "cancel-in-progress" not in WORKFLOWS[name]["concurrency"]


def test_images_are_of_a_commit_that_passed_all_tests_and_where_there_is_a_role():
    jobs = WORKFLOWS["test"]["jobs"]
    assert set(jobs["images"]["needs"]) == set(jobs) - {"images"}
    assert jobs["images"]["if"] == "github.event_name == 'push' && vars.IMAGES_ROLE != ''"
    assert {name for name, flow in WORKFLOWS.items() if "push" in flow["on"]} == {"test"}
    assert "vars.IMAGES_ROLE != ''" in WORKFLOWS["images"]["jobs"]["build"]["if"]


def test_charts_are_installed_by_a_runner_that_reaches_the_api():
    # Which is private, or open to a few addresses.
    job = WORKFLOWS["deploy"]["jobs"]["deploy"]
    assert job["runs-on"] == "${{ vars.DEPLOY_RUNNER }}"
    assert "vars.DEPLOY_RUNNER != ''" in job["if"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_that_is_named_is_there(path):
    named = re.findall(
        r"(?:terraform|deploy|tools|fl_assets_tests)/[\w/]+\.(?:sh|py)", path.read_text()
    )
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_an_image_is_scanned_before_it_is_pushed():
    steps = [str(step) for step in WORKFLOWS["images"]["jobs"]["build"]["steps"]]
    order = [
        next(i for i, step in enumerate(steps) if word in step)
        for word in ("build-push-action", "scan-action", "docker push")
    ]
    assert order == sorted(order)
