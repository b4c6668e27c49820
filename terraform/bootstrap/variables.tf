variable "name" {
  description = "Name of the consortium, as in consortium.yaml."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$", var.name))
    error_message = "name is ${var.name}: it must be 1 to 32 lower-case letters, digits and inner hyphens, since roles and buckets are named by it."
  }
}

variable "region" {
  description = "Region of the state, as in consortium.yaml."
  type        = string
}

variable "state_bucket" {
  description = "Name of the bucket of all states, unique in the whole of AWS."
  type        = string
}

variable "github_repository" {
  description = "Repository whose workflows may take the roles, as owner/name."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$", var.github_repository))
    error_message = "github_repository is ${var.github_repository}: it must be owner/name, without wildcards."
  }
}

variable "github_environment" {
  description = "Environment of that repository that workflows need to apply and to deploy; protect it by reviewers."
  type        = string
  default     = "production"
}

variable "github_provider_exists" {
  description = "Whether the account already trusts GitHub's tokens; an account can do so once only."
  type        = bool
  default     = false
}
