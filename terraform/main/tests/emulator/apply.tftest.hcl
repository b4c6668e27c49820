# The whole of it on moto, an emulator, by the real provider. What moto has not, or would keep the
# provider waiting for ever, is left out here.
override_data {
  target = module.cluster.data.aws_eks_addon_version.this
  values = { version = "v1.0.0-eksbuild.1" }
}

override_resource {
  target = module.cluster.aws_eks_addon.this
}

override_resource {
  target = module.cluster.aws_eks_access_entry.admin
}

override_resource {
  target = module.cluster.aws_eks_access_policy_association.admin
}

override_resource {
  target = module.cluster.aws_autoscaling_group_tag.training
}

override_resource {
  target = module.coordinator.aws_sqs_queue_redrive_allow_policy.rejected
}

override_resource {
  target = module.database.aws_vpc_security_group_ingress_rule.nodes
}

override_resource {
  target = module.observability.aws_budgets_budget.monthly
}

variables {
  consortium_file     = "../../examples/eks/consortium.yaml"
  deployers           = ["arn:aws:sts::123456789012:user/moto"]
  cluster_admins      = ["arn:aws:iam::123456789012:role/admin"]
  interface_endpoints = ["sts", "ecr.api"]
  monthly_budget      = 600
  athena              = true
  disposable          = true
  key_deletion_days   = 7
}

run "apply" {
  command = apply

  assert {
    condition     = length(output.hospitals) == 3
    error_message = "Not every hospital of consortium.yaml is there."
  }
}

run "again" {
  command = plan
}
