variable "consortium_file" {
  description = "Path of consortium.yaml, the one list of hospitals."
  type        = string

  validation {
    condition     = try(yamldecode(file(var.consortium_file)).simulated, false) == false
    error_message = "${var.consortium_file} says simulated: true: simulated hospitals need no AWS. Set it to false."
  }

  validation {
    condition     = try(yamldecode(file(var.consortium_file)).region, null) != null
    error_message = "${var.consortium_file} names no region: rows must not end up where the environment happens to point. Add `region:`."
  }

  validation {
    condition     = try(yamldecode(file(var.consortium_file)).role, null) == null
    error_message = "${var.consortium_file} names a role: on EKS a pod has its rights by web identity. Set `role: null`."
  }

  validation {
    condition = alltrue([
      for hospital in yamldecode(file(var.consortium_file)).hospitals :
      can(regex("^s3://[a-z0-9{][a-z0-9.{}-]*$", try(hospital.bucket, yamldecode(file(var.consortium_file)).bucket)))
    ])
    error_message = "${var.consortium_file} has a hospital whose bucket is no s3://bucket without a prefix: give every hospital a bucket of its own."
  }

  validation {
    condition = length(distinct([
      for hospital in yamldecode(file(var.consortium_file)).hospitals :
      replace(try(hospital.bucket, yamldecode(file(var.consortium_file)).bucket), "{hospital}", hospital.name)
    ])) == length(yamldecode(file(var.consortium_file)).hospitals)
    error_message = "${var.consortium_file} has two hospitals in one bucket: put {hospital} into its pattern."
  }
}

variable "deployers" {
  description = "ARNs of the roles that run Terraform on this root: those of the pipeline (bootstrap's outputs) and whoever applies by hand."
  type        = list(string)

  validation {
    condition     = length(var.deployers) > 0 && alltrue([for arn in var.deployers : can(regex("^arn:aws:(iam|sts)::[0-9]{12}:(role|user)/.+$", arn))])
    error_message = "deployers must name at least one role by its ARN, as arn:aws:iam::123456789012:role/name: nobody else could plan once the hospitals' buckets are there."
  }
}

variable "cluster_admins" {
  description = "ARNs of the roles that administrate the cluster: bootstrap's deploy role and people."
  type        = set(string)
}

variable "ingest_principals" {
  description = "By hospital the ARNs of those who may take the role that sends its files; nobody if a hospital is not named."
  type        = map(list(string))
  default     = {}
}

variable "vpc_cidr" {
  description = "Addresses of the VPC, a private /16."
  type        = string
  default     = "10.40.0.0/16"

  validation {
    condition     = can(cidrsubnet(var.vpc_cidr, 8, 255)) && endswith(var.vpc_cidr, "/16") && can(regex("^(10\\.|172\\.(1[6-9]|2[0-9]|3[01])\\.|192\\.168\\.)", var.vpc_cidr))
    error_message = "vpc_cidr is ${var.vpc_cidr}: it must be a private network of 65,536 addresses, as 10.40.0.0/16."
  }
}

variable "nat_per_zone" {
  description = "A NAT gateway in each zone instead of one for all three."
  type        = bool
  default     = false
}

variable "interface_endpoints" {
  description = "AWS services that are reached without NAT, as ecr.api, ecr.dkr, sts, logs, sqs. Each is billed per zone and hour."
  type        = set(string)
  default     = []
}

variable "kubernetes_version" {
  description = "Minor version of Kubernetes; go up one at a time."
  type        = string
  default     = "1.35"

  validation {
    condition     = contains(["1.33", "1.34", "1.35", "1.36"], var.kubernetes_version)
    error_message = "kubernetes_version is ${var.kubernetes_version}: only 1.33, 1.34, 1.35 and 1.36 are known to work here, and AWS must still have it in standard support."
  }
}

variable "endpoint_cidrs" {
  description = "Addresses that reach the cluster's API from outside the VPC; it is private if there are none."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.endpoint_cidrs : can(cidrhost(cidr, 0))])
    error_message = "endpoint_cidrs has something that is no CIDR: write addresses as 203.0.113.7/32."
  }

  validation {
    condition     = alltrue([for cidr in var.endpoint_cidrs : try(tonumber(split("/", cidr)[1]) >= 16, true)])
    error_message = "endpoint_cidrs opens the cluster's API to a large part of the world: name the addresses of your office, VPN or runners, a /16 at most."
  }
}

variable "controller_identity" {
  description = "How the cluster's controllers have their roles: irsa or pod-identity."
  type        = string
  default     = "irsa"

  validation {
    condition     = contains(["irsa", "pod-identity"], var.controller_identity)
    error_message = "controller_identity is ${var.controller_identity}: it must be irsa or pod-identity."
  }
}

variable "hospital_identity" {
  description = "How hospitals' pods have their roles: irsa, which ties a role to one account by the token of this cluster's issuer, or pod-identity, which does so by tags that EKS sets."
  type        = string
  default     = "irsa"

  validation {
    condition     = contains(["irsa", "pod-identity"], var.hospital_identity)
    error_message = "hospital_identity is ${var.hospital_identity}: it must be irsa or pod-identity."
  }
}

variable "system_nodes" {
  description = "Nodes of Dagster, MLflow and the cluster's own parts."
  type = object({
    instance_types = optional(list(string), ["m7i.large"])
    spot           = optional(bool, false)
    min            = optional(number, 2)
    max            = optional(number, 4)
    disk_gib       = optional(number, 50)
  })
  default = {}
}

variable "training_nodes" {
  description = "Nodes of trainings and hospitals' tasks, none while there are none. On spot a hospital's pod may be taken away in a round; the training goes on without it, and its server begins anew from the last checkpoint."
  type = object({
    instance_types = optional(list(string), ["m7i.xlarge", "m6i.xlarge", "m7a.xlarge"])
    spot           = optional(bool, false)
    min            = optional(number, 0)
    max            = optional(number, 6)
    disk_gib       = optional(number, 100)
  })
  default = {}
}

variable "images" {
  description = "Images that the registry has a repository for."
  type        = set(string)
  default     = ["dagster", "site", "server", "dashboard"]
}

variable "postgres_version" {
  description = "Major version of Postgres."
  type        = string
  default     = "17"
}

variable "database_class" {
  description = "Size of the database's machine."
  type        = string
  default     = "db.t4g.medium"
}

variable "database_multi_az" {
  description = "Whether the database has a copy in a second zone; doubles its cost."
  type        = bool
  default     = false
}

variable "secrets" {
  description = "Entries in Secrets Manager that the deployment fills and reads, and what each is for."
  type        = map(string)
  default = {
    dagster-database = "Password of Dagster's database user"
    mlflow-database  = "Password of MLflow's database user"
    grafana          = "Password of Grafana's administrator"
    ingress          = "Client secret of the single sign-on before the user interfaces"
  }
}

variable "athena" {
  description = "Whether each hospital has a Glue database and a table of its records."
  type        = bool
  default     = false
}

variable "alarm_emails" {
  description = "Who is told of alarms."
  type        = set(string)
  default     = []
}

variable "monthly_budget" {
  description = "US dollars a month; an alarm comes at 80 percent, and when a forecast exceeds it."
  type        = number

  validation {
    condition     = var.monthly_budget > 0
    error_message = "monthly_budget is ${var.monthly_budget}: it must be more than 0 US dollars."
  }
}

variable "log_days" {
  description = "Days that logs are kept."
  type        = number
  default     = 365
}

variable "trail_days" {
  description = "Days that the audit trail is kept."
  type        = number
  default     = 2557
}

variable "key_deletion_days" {
  description = "Days between the deletion of a key and its end."
  type        = number
  default     = 30
}

variable "disposable" {
  description = "Whether `terraform destroy` takes buckets, images, secrets and database with all that is in them. For trials with made-up patients only."
  type        = bool
  default     = false
}
