variable "name" {
  description = "Name of the consortium, the prefix of names."
  type        = string
}

variable "region" {
  description = "Region of the trail."
  type        = string
}

variable "account_id" {
  description = "Account that is watched."
  type        = string
}

variable "watched_buckets" {
  description = "Buckets of which every request is recorded."
  type        = list(string)
}

variable "rejected_queue" {
  description = "Name of the queue that should be empty."
  type        = string
}

variable "database" {
  description = "Name of the database instance."
  type        = string
}

variable "emails" {
  description = "Who is told of alarms."
  type        = set(string)
}

variable "monthly_budget" {
  description = "US dollars a month at which a forecast raises the alarm."
  type        = number
}

variable "trail_days" {
  description = "Days that the audit trail is kept."
  type        = number
}

variable "disposable" {
  description = "Whether the trail may be destroyed."
  type        = bool
}

variable "deletion_days" {
  description = "Days between the deletion of a key and its end."
  type        = number
}
