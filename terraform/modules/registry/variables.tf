variable "name" {
  description = "Name of the consortium, the prefix of names."
  type        = string
}

variable "account_id" {
  description = "Account of the registry."
  type        = string
}

variable "images" {
  description = "Names of the images."
  type        = set(string)
}

variable "disposable" {
  description = "Whether repositories may be destroyed with what is in them."
  type        = bool
}

variable "deletion_days" {
  description = "Days between the deletion of the key and its end."
  type        = number
}
