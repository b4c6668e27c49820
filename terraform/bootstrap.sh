#!/usr/bin/env bash
# Makes the bucket of Terraform's states and GitHub's roles, keeps its own state in that bucket, and
# writes main/backend.hcl. Safe to run again, also after it was interrupted.
#
# usage: terraform/bootstrap.sh [options of terraform apply]
# needs: terraform/bootstrap/terraform.tfvars and credentials of an administrator
set -euo pipefail

cd "$(dirname "$0")/bootstrap"
local_state=local.tfstate
override=local_override.tf

variable() {
  sed -n "s/^ *$1 *= *\"\([^\"]*\)\".*/\1/p" terraform.tfvars
}

if [[ ! -f terraform.tfvars ]]; then
  echo "bootstrap/terraform.tfvars is missing: copy terraform.tfvars.example and fill it in" >&2
  exit 2
fi
bucket=$(variable state_bucket)
region=$(variable region)
if [[ -z $bucket || -z $region ]]; then
  echo "bootstrap/terraform.tfvars must set state_bucket and region" >&2
  exit 2
fi
remote=(-backend-config="bucket=$bucket" -backend-config="region=$region")

in_bucket() {
  terraform init -input=false -reconfigure "${remote[@]}"
}

# A state that lies here belongs to a run that was interrupted before it moved.
if [[ -f $local_state ]] || ! message=$(in_bucket 2>&1); then
  if [[ ! -f $local_state && $message != *NoSuchBucket* && $message != *"does not exist"* ]]; then
    echo "$message" >&2
    exit 1
  fi
  trap 'rm -f "$override"' EXIT
  cat >"$override" <<HCL
terraform {
  backend "local" {
    path = "$local_state"
  }
}
HCL
  terraform init -input=false -reconfigure
  terraform apply -input=false "$@"
  rm "$override"
  terraform init -input=false -migrate-state -force-copy "${remote[@]}"
  rm -f "$local_state" "$local_state.backup"
else
  terraform apply -input=false "$@"
fi

cat >../main/backend.hcl <<HCL
bucket = "$bucket"
region = "$region"
HCL
echo "Written: terraform/main/backend.hcl. Next: terraform -chdir=terraform/main init -backend-config=backend.hcl"
