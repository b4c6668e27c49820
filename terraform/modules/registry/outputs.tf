output "repositories" {
  description = "URLs of the repositories by image."
  value       = { for image, repository in aws_ecr_repository.this : image => repository.repository_url }
}
