variable "name" {
  description = "Name of the consortium, the prefix of names."
  type        = string
}

variable "account_id" {
  description = "Account of buckets and roles."
  type        = string
}

variable "namespace" {
  description = "Namespace of Dagster's runs and of the server of a training."
  type        = string
}

variable "cluster" {
  description = "Cluster whose service accounts may take the roles; issuer without https://."
  type = object({
    name       = string
    arn        = string
    account_id = string
    issuer     = string
    issuer_arn = string
  })
}

variable "hospital_buckets" {
  description = "Buckets that tell the queue of uploads."
  type        = list(string)
}

variable "disposable" {
  description = "Whether the buckets may be destroyed with what is in them."
  type        = bool
}

variable "deletion_days" {
  description = "Days between the deletion of a key and its end."
  type        = number
}
