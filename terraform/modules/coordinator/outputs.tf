output "buckets" {
  description = "Names of the buckets: coordinator and mlflow."
  value       = { for name, bucket in module.bucket : name => bucket.name }
}

output "key_arn" {
  description = "Key of the coordinator's bucket."
  value       = module.key["coordinator"].arn
}

output "roles" {
  description = "ARNs of the roles: coordinator, server, mlflow."
  value       = { for name, role in module.role : name => role.arn }
}

output "upload_queue" {
  description = "Queue of the hospitals' uploads."
  value       = { url = aws_sqs_queue.uploads.url, arn = aws_sqs_queue.uploads.arn }

  # S3 sends a message of test when it is told of the queue, and refuses where that fails.
  depends_on = [aws_sqs_queue_policy.uploads]
}

output "rejected_queue" {
  description = "Name of the queue of messages that nobody could make use of."
  value       = aws_sqs_queue.rejected.name
}
