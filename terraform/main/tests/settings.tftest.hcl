mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  consortium_file = "../../examples/eks/consortium.yaml"
  deployers       = ["arn:aws:iam::123456789012:role/admin"]
  cluster_admins  = ["arn:aws:iam::123456789012:role/admin"]
  monthly_budget  = 600
}

run "defaults" {
  command = plan

  assert {
    condition     = toset(keys(module.hospital)) == toset(["north", "south", "clinic"])
    error_message = "A hospital of consortium.yaml has no module."
  }

  assert {
    condition     = output.hospitals["north"].namespace == "fl-north"
    error_message = "The namespace is not that of the default pattern."
  }
}

run "open_api" {
  command = plan

  variables {
    endpoint_cidrs = ["0.0.0.0/0"]
  }

  expect_failures = [var.endpoint_cidrs]
}

run "api_open_to_a_large_part_of_the_world" {
  command = plan

  variables {
    endpoint_cidrs = ["203.0.113.7/32", "10.0.0.0/8"]
  }

  expect_failures = [var.endpoint_cidrs]
}

run "hospital_identity_that_is_none" {
  command = plan

  variables {
    hospital_identity = "kube2iam"
  }

  expect_failures = [var.hospital_identity]
}

run "no_cidr" {
  command = plan

  variables {
    endpoint_cidrs = ["office"]
  }

  expect_failures = [var.endpoint_cidrs]
}

run "old_kubernetes" {
  command = plan

  variables {
    kubernetes_version = "1.29"
  }

  expect_failures = [var.kubernetes_version]
}

run "small_network" {
  command = plan

  variables {
    vpc_cidr = "10.0.0.0/24"
  }

  expect_failures = [var.vpc_cidr]
}

run "simulated_hospitals" {
  command = plan

  variables {
    consortium_file = "../../consortium.yaml"
  }

  expect_failures = [var.consortium_file]
}

run "wildcard_deployer" {
  command = plan

  variables {
    deployers = ["*"]
  }

  expect_failures = [var.deployers]
}

run "stranger_applies" {
  command = plan

  variables {
    deployers = ["arn:aws:iam::123456789012:role/somebody-else"]
  }

  expect_failures = [terraform_data.deployer]
}
