output "name" {
  description = "Name of the bucket, once it is there and its policy in force."
  value       = var.name

  depends_on = [aws_s3_bucket_policy.this]
}
