variable "name" {
  description = "Name of the cluster."
  type        = string
}

variable "account_id" {
  description = "Account of the cluster."
  type        = string
}

variable "kubernetes_version" {
  description = "Minor version of Kubernetes, of the control plane and the nodes."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets of control plane and nodes."
  type        = list(string)
}

variable "endpoint_cidrs" {
  description = "Addresses that reach the API from outside the VPC; private only if empty."
  type        = list(string)
}

variable "admins" {
  description = "ARNs of the roles that administrate the cluster."
  type        = set(string)
}

variable "controller_identity" {
  description = "How the cluster's controllers have their roles: irsa or pod-identity."
  type        = string
}

variable "hospital_identity" {
  description = "How hospitals' pods have their roles: irsa or pod-identity, which needs an agent on every node."
  type        = string
}

variable "system_nodes" {
  description = "Nodes of Dagster, MLflow and the cluster's own parts."
  type = object({
    instance_types = list(string)
    spot           = bool
    min            = number
    max            = number
    disk_gib       = number
  })
}

variable "training_nodes" {
  description = "Nodes of trainings and hospitals' tasks."
  type = object({
    instance_types = list(string)
    spot           = bool
    min            = number
    max            = number
    disk_gib       = number
  })
}

variable "log_key_arn" {
  description = "Key of the log group."
  type        = string
}

variable "log_days" {
  description = "Days that logs are kept."
  type        = number
}

variable "deletion_days" {
  description = "Days between the deletion of a key and its end."
  type        = number
}

variable "tags" {
  description = "Tags of machines and their disks, which a provider's default tags do not reach."
  type        = map(string)
}
