variable "name" {
  description = "Name of the consortium, the prefix of names."
  type        = string
}

variable "hospital" {
  description = "Name of the hospital."
  type        = string
}

variable "bucket" {
  description = "Name of its bucket."
  type        = string
}

variable "namespace" {
  description = "Its namespace on the cluster."
  type        = string
}

variable "region" {
  description = "Region of the bucket."
  type        = string
}

variable "account_id" {
  description = "Account of bucket and roles."
  type        = string
}

variable "cluster" {
  description = "Cluster whose service accounts may take its role; issuer without https://."
  type = object({
    name       = string
    arn        = string
    account_id = string
    issuer     = string
    issuer_arn = string
  })
}

variable "identity" {
  description = "How its pods prove their account: irsa or pod-identity."
  type        = string
}

variable "coordinator" {
  description = "Who sees uploads and reads manifests, and the bucket with its requests."
  type = object({
    role_arn = string
    bucket   = string
    key_arn  = string
  })
}

variable "deployers" {
  description = "ARNs of the roles that plan and apply: they ask whether the bucket is there, which S3 takes for a listing."
  type        = list(string)
}

variable "ingest_principals" {
  description = "ARNs of those who may take the role that sends files."
  type        = list(string)
}

variable "upload_queue_arn" {
  description = "Queue that is told of uploads."
  type        = string
}

variable "cohort" {
  description = "Decoded YAML of the cohort, for the Athena table; no table if null."
  type        = any
}

variable "disposable" {
  description = "Whether the bucket may be destroyed with what is in it."
  type        = bool
}

variable "deletion_days" {
  description = "Days between the deletion of the key and its end."
  type        = number
}
