output "state_bucket" {
  description = "Bucket of all states."
  value       = module.state.name
}

output "boundary_arn" {
  description = "The most that any role of the consortium can do; main's roles bear it."
  value       = aws_iam_policy.boundary.arn
}

output "plan_role_arn" {
  description = "Role of workflows that plan; one of main's deployers."
  value       = aws_iam_role.github["plan"].arn
}

output "apply_role_arn" {
  description = "Role of workflows that apply and destroy; one of main's deployers."
  value       = aws_iam_role.github["apply"].arn
}

output "images_role_arn" {
  description = "Role of workflows that push images."
  value       = aws_iam_role.github["images"].arn
}

output "deploy_role_arn" {
  description = "Role of workflows that install on the cluster; one of main's cluster_admins."
  value       = aws_iam_role.github["deploy"].arn
}
