variable "name" {
  description = "Prefix of names."
  type        = string
}

variable "region" {
  description = "Region of the VPC."
  type        = string
}

variable "account_id" {
  description = "Account of the VPC."
  type        = string
}

variable "cidr" {
  description = "Addresses of the VPC, a /16."
  type        = string
}

variable "nat_per_zone" {
  description = "A NAT gateway in each zone instead of one for all: dearer, and no zone depends on another."
  type        = bool
}

variable "interface_endpoints" {
  description = "Services that pods reach without NAT, as ecr.api, ecr.dkr, sts, logs."
  type        = set(string)
}

variable "log_key_arn" {
  description = "Key of the log groups."
  type        = string
}

variable "log_days" {
  description = "Days that logs are kept."
  type        = number
}
