variable "name" {
  description = "Name of the bucket."
  type        = string
}

variable "key_arn" {
  description = "Key that objects are encrypted with unless a request names one."
  type        = string
}

variable "statements" {
  description = "Statements of the bucket policy beside the one that demands TLS."
  type        = any
  default     = []
}

variable "old_version_days" {
  description = "Days after which versions that are no longer current go; they stay if null."
  type        = number
  default     = null
}

variable "expiration_days" {
  description = "Days after which objects go; they stay if null."
  type        = number
  default     = null
}

variable "disposable" {
  description = "Whether the bucket may be destroyed with what is in it."
  type        = bool
  default     = false
}

variable "tags" {
  description = "Tags of the bucket."
  type        = map(string)
  default     = {}
}
