variable "name" {
  description = "Name of the instance."
  type        = string
}

variable "account_id" {
  description = "Account of the instance."
  type        = string
}

variable "vpc_id" {
  description = "VPC of the instance."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets of the instance."
  type        = list(string)
}

variable "client_security_group_id" {
  description = "Security group of those who connect."
  type        = string
}

variable "postgres_version" {
  description = "Major version of Postgres; minor ones come by themselves."
  type        = string
}

variable "instance_class" {
  description = "Size of the machine."
  type        = string
}

variable "multi_az" {
  description = "Whether a second zone has a copy that takes over."
  type        = bool
}

variable "log_key_arn" {
  description = "Key of the log group."
  type        = string
}

variable "log_days" {
  description = "Days that logs are kept."
  type        = number
}

variable "disposable" {
  description = "Whether the instance may be destroyed, without a last snapshot."
  type        = bool
}

variable "deletion_days" {
  description = "Days between the deletion of the key and its end."
  type        = number
}
