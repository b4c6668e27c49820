output "bucket" {
  description = "Name of the bucket."
  value       = module.bucket.name
}

output "key_arn" {
  description = "Key of its objects."
  value       = module.key.arn
}

output "site_role_arn" {
  description = "Role of the hospital's pods."
  value       = module.site.arn
}

output "ingest_role_arn" {
  description = "Role that sends files."
  value       = aws_iam_role.ingest.arn
}
