output "identity" {
  description = "What a role must know of the cluster to trust its service accounts."
  value       = local.identity
}

output "endpoint" {
  description = "URL of the cluster's API."
  value       = aws_eks_cluster.this.endpoint
}

output "security_group_id" {
  description = "Security group of control plane and nodes."
  value       = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
}

output "node_role_arn" {
  description = "ARN of the machines' role."
  value       = aws_iam_role.node.arn
}

output "controller_roles" {
  description = "ARNs of the controllers' roles by controller."
  value       = { for name, role in module.controller : name => role.arn }
}
