variable "name" {
  description = "Name of the consortium, the prefix of names."
  type        = string
}

variable "account_id" {
  description = "Account of the secrets."
  type        = string
}

variable "secrets" {
  description = "What each secret is for, by name."
  type        = map(string)
}

variable "disposable" {
  description = "Whether a secret is gone at once when it is deleted."
  type        = bool
}

variable "deletion_days" {
  description = "Days between the deletion of the key and its end."
  type        = number
}
