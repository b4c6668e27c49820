#!/usr/bin/env bash
# From an AWS account to a running consortium. Safe to run again: what is there stays.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: deploy/deploy.sh [--help]

  1. state      terraform/bootstrap.sh, unless terraform/main/backend.hcl is there
  2. AWS        plan of terraform/main, which is shown; a bucket that it removes must be empty;
                asks, and applies
  3. images     build and push what the registry lacks
  4. cluster    all charts, passwords and databases, in their order

Variables:
  CONSORTIUM  path of consortium.yaml (default: consortium.yaml)
  OVERRIDES   values by chart that come on top of helm-values/ (default: overrides.yaml beside
              consortium.yaml, if it is there)
  TAG         images of this tag are pushed already: do step 4 alone, as the pipeline does
  BUILDER     docker or podman (default: docker)
  YES=1       apply Terraform's plan without a question
  DRY_RUN=1   show the commands and call none
  PYTHON      with this project installed (default: .venv/bin/python)

terraform/bootstrap/terraform.tfvars and terraform/main/terraform.tfvars must be filled in first;
docs/deployment.md has every step.
TEXT
}

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
  usage
  exit 0
fi
if [[ $# -gt 0 ]]; then
  usage >&2
  exit 2
fi

cd "$(dirname "$0")/.."
consortium=$(realpath "${CONSORTIUM:-consortium.yaml}")
overrides=${OVERRIDES:-}
if [[ -z $overrides && -f $(dirname "$consortium")/overrides.yaml ]]; then
  overrides=$(dirname "$consortium")/overrides.yaml
fi
builder=${BUILDER:-docker}
python=${PYTHON:-.venv/bin/python}
dry=${DRY_RUN:-}
given_tag=${TAG:-}

fail() {
  echo "error: $*" >&2
  exit 1
}

run() {
  echo "+ $*"
  [[ -n $dry ]] || "$@"
}

output() {
  terraform -chdir=terraform/main output -raw "$1"
}

check_tools() {
  local tools=(git aws terraform kubectl helm "$python") tool
  [[ -n $given_tag ]] || tools+=("$builder")
  for tool in "${tools[@]}"; do
    command -v "$tool" >/dev/null || fail "there is no \`$tool\`: install it (for $python: make demo)"
  done
  helm version --short | grep -q '^v4\.' || fail "helm is not of version 4: install it"
  aws sts get-caller-identity --output text >/dev/null ||
    fail "no login at AWS: \`aws sso login\`, or set AWS_PROFILE"
}

check_files() {
  [[ -f $consortium ]] || fail "$consortium is not there: set CONSORTIUM"
  [[ -n $given_tag ]] && return
  [[ -f terraform/bootstrap/terraform.tfvars && -f terraform/main/terraform.tfvars ]] ||
    fail "terraform/bootstrap and terraform/main need a terraform.tfvars: copy the examples there"
  [[ -z $(git status --porcelain) ]] ||
    fail "there are changes that are not committed: an image is named by its commit"
}

make_infrastructure() {
  if [[ ! -f terraform/main/backend.hcl ]]; then
    # Without a question, since it takes no input.
    run terraform/bootstrap.sh -auto-approve
  fi
  run terraform -chdir=terraform/main init -input=false -backend-config=backend.hcl
  run terraform -chdir=terraform/main plan -input=false -var "consortium_file=$consortium" \
    -out=main.tfplan
  look_at_removals
  approve
  run terraform -chdir=terraform/main apply -input=false main.tfplan
}

look_at_removals() {
  echo "+ terraform -chdir=terraform/main show -json main.tfplan | $python -m deploy.removals"
  [[ -n $dry ]] || terraform -chdir=terraform/main show -json main.tfplan | "$python" -m deploy.removals
}

approve() {
  local answer
  [[ -z $dry && -z ${YES:-} ]] || return 0
  # Without anybody to ask the answer is no.
  read -rp "Apply this plan? Only 'yes' does: " answer || true
  [[ $answer == yes ]] || fail "not applied"
}

read_outputs() {
  mkdir -p build
  echo "+ terraform -chdir=terraform/main output -json > build/outputs.json"
  [[ -n $dry ]] || terraform -chdir=terraform/main output -json >build/outputs.json
}

push_images() {
  local target registry=REGISTRY region=REGION name=NAME
  if [[ -z $dry ]]; then
    region=$(output region)
    name=$(output name)
    registry=$(output account_id).dkr.ecr.$region.amazonaws.com
  fi
  echo "+ aws ecr get-login-password | $builder login --username AWS --password-stdin $registry"
  [[ -n $dry ]] || aws ecr get-login-password --region "$region" |
    "$builder" login --username AWS --password-stdin "$registry" >/dev/null
  for target in dagster site server; do
    # Tags do not change: what is there has been built of the same commit.
    if [[ -z $dry ]] && aws ecr describe-images --region "$region" \
      --repository-name "$name/$target" --image-ids "imageTag=$tag" >/dev/null 2>&1; then
      echo "  $target of $tag is there"
      continue
    fi
    run "$builder" build --target "$target" --tag "$registry/$name/$target:$tag" .
    run "$builder" push "$registry/$name/$target:$tag"
  done
}

install_charts() {
  local region=REGION cluster=CLUSTER arguments=(--consortium "$consortium" --tag "$tag")
  if [[ -n $dry ]]; then
    arguments+=(--dry-run)
  else
    region=$(output region)
    cluster=$(output cluster_name)
    arguments+=(--outputs build/outputs.json)
  fi
  [[ -z $overrides ]] || arguments+=(--overrides "$overrides")
  export KUBECONFIG=$PWD/build/kubeconfig
  run aws eks update-kubeconfig --region "$region" --name "$cluster" --kubeconfig "$KUBECONFIG"
  "$python" -m deploy.install "${arguments[@]}"
}

if [[ -z $dry ]]; then
  check_tools
  check_files
fi
tag=${given_tag:-$(git rev-parse HEAD)}
[[ -n $given_tag ]] || make_infrastructure
read_outputs
[[ -n $given_tag ]] || push_images
install_charts
[[ -n $dry ]] || echo "Deployed $tag. Next: export KUBECONFIG=$PWD/build/kubeconfig; make verify-remote"
