variable "name" {
  description = "Alias of the key, without alias/."
  type        = string
}

variable "description" {
  description = "What the key encrypts."
  type        = string
}

variable "account_id" {
  description = "Account of the key."
  type        = string
}

variable "delegated" {
  description = "Whether policies of IAM may let anybody in the account use the key. If not, its own statements alone do."
  type        = bool
  default     = true
}

variable "statements" {
  description = "Statements of the key policy beside that of its administration."
  type        = any
  default     = []
}

variable "deletion_days" {
  description = "Days between the deletion of the key and its end."
  type        = number
  default     = 30
}

variable "tags" {
  description = "Tags of the key."
  type        = map(string)
  default     = {}
}
