output "vpc_id" {
  description = "ID of the VPC."
  value       = aws_vpc.this.id
}

output "private_subnet_ids" {
  description = "IDs of the private subnets, one per zone."
  value       = [for subnet in aws_subnet.private : subnet.id]
}
