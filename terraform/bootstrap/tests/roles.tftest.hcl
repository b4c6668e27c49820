mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000" }
  }
}

variables {
  name              = "acme-stroke"
  region            = "eu-central-1"
  state_bucket      = "acme-stroke-terraform"
  github_repository = "acme/fl-assets"
}

run "roles" {
  command = apply

  assert {
    condition = alltrue([
      for role in ["apply", "deploy"] :
      jsondecode(aws_iam_role.github[role].assume_role_policy).Statement[0].Condition.StringEquals["token.actions.githubusercontent.com:sub"] == ["repo:acme/fl-assets:environment:production"]
    ])
    error_message = "A workflow applies or deploys outside of the protected environment."
  }

  assert {
    condition = alltrue([
      for role in values(aws_iam_role.github) :
      keys(jsondecode(role.assume_role_policy).Statement[0].Condition) == ["StringEquals"] && !strcontains(role.assume_role_policy, "*")
    ])
    error_message = "A role trusts by wildcard."
  }

  # Reading is all: but for the lock of the state, and the key that it is encrypted with.
  assert {
    condition = alltrue([
      for action in flatten([for statement in jsondecode(aws_iam_role_policy.github["plan"].policy).Statement : statement.Action if !contains(["LockState", "StateKey"], statement.Sid)]) :
      can(regex("^[a-z0-9]+:(Describe|Get|List|View)", action))
    ])
    error_message = "The role of plans may change something."
  }

  assert {
    condition     = !strcontains(aws_iam_role_policy.github["plan"].policy, "GetSecretValue") && !strcontains(aws_iam_role_policy.github["plan"].policy, "s3:Get*")
    error_message = "The role of plans reads what is in secrets or buckets."
  }
}

run "account_that_trusts_github_already" {
  command = plan

  variables {
    github_provider_exists = true
  }

  assert {
    condition     = length(aws_iam_openid_connect_provider.github) == 0
    error_message = "An account can trust an issuer once only."
  }
}

run "wildcard_repository" {
  command = plan

  variables {
    github_repository = "acme/*"
  }

  expect_failures = [var.github_repository]
}

run "name_with_capitals" {
  command = plan

  variables {
    name = "Acme"
  }

  expect_failures = [var.name]
}
