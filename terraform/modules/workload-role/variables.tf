variable "name" {
  description = "Name of the role."
  type        = string

  validation {
    condition     = length(var.name) <= 64
    error_message = "The role ${var.name} has a name of more than 64 letters, which is all that IAM takes: shorten the consortium's name or the hospital's."
  }
}

variable "description" {
  description = "Whose role it is."
  type        = string
}

variable "cluster" {
  description = "Cluster whose service accounts may take the role; issuer without https://."
  type = object({
    name       = string
    arn        = string
    account_id = string
    issuer     = string
    issuer_arn = string
  })
}

variable "accounts" {
  description = "Those service accounts, as namespace/name."
  type        = list(string)
}

variable "identity" {
  description = "How a pod proves its account: irsa (tied to this cluster's issuer) or pod-identity."
  type        = string
  default     = "irsa"

  validation {
    condition     = contains(["irsa", "pod-identity"], var.identity)
    error_message = "identity is ${var.identity}: it must be irsa or pod-identity."
  }
}

variable "policies" {
  description = "Policies of the role by name, as JSON."
  type        = map(string)
  default     = {}
}

variable "managed_policies" {
  description = "AWS' own policies that the role has as well, without arn:aws:iam::aws:policy/."
  type        = set(string)
  default     = []
}

variable "tags" {
  description = "Tags of the role."
  type        = map(string)
  default     = {}
}
