output "host" {
  description = "Name of the host; port 5432."
  value       = aws_db_instance.this.address
}

output "identifier" {
  description = "Name of the instance."
  value       = aws_db_instance.this.identifier
}

output "administrator_secret_arn" {
  description = "Secret with the administrator's name and password."
  value       = aws_db_instance.this.master_user_secret[0].secret_arn
}
