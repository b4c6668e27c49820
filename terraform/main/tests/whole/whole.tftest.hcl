# All of it by a provider that is mocked, for tests that look at what it would be.
mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  consortium_file = "../../examples/eks/consortium.yaml"
  deployers       = ["arn:aws:iam::123456789012:role/admin"]
  cluster_admins  = ["arn:aws:iam::123456789012:role/admin"]
  monthly_budget  = 600
}

run "whole" {}
