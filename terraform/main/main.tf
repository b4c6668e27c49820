# Logs of VPC, cluster and database; the groups themselves are beside what writes into them.
module "log_key" {
  source = "../modules/key"

  name          = "${local.name}-logs"
  description   = "Logs of ${local.name}"
  account_id    = local.account_id
  deletion_days = var.key_deletion_days

  statements = [{
    Sid       = "Logs"
    Effect    = "Allow"
    Principal = { Service = "logs.${local.region}.amazonaws.com" }
    Action    = ["kms:Encrypt*", "kms:Decrypt*", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:Describe*"]
    Resource  = ["*"]
    Condition = { ArnLike = { "kms:EncryptionContext:aws:logs:arn" = "arn:aws:logs:${local.region}:${local.account_id}:log-group:*" } }
  }]
}

module "network" {
  source = "../modules/network"

  name                = local.name
  region              = local.region
  account_id          = local.account_id
  cidr                = var.vpc_cidr
  nat_per_zone        = var.nat_per_zone
  interface_endpoints = var.interface_endpoints
  log_key_arn         = module.log_key.arn
  log_days            = var.log_days
}

module "cluster" {
  source = "../modules/cluster"

  name                = local.name
  account_id          = local.account_id
  kubernetes_version  = var.kubernetes_version
  subnet_ids          = module.network.private_subnet_ids
  endpoint_cidrs      = var.endpoint_cidrs
  admins              = var.cluster_admins
  controller_identity = var.controller_identity
  hospital_identity   = var.hospital_identity
  system_nodes        = var.system_nodes
  training_nodes      = var.training_nodes
  log_key_arn         = module.log_key.arn
  log_days            = var.log_days
  deletion_days       = var.key_deletion_days
  tags                = local.tags
}

module "coordinator" {
  source = "../modules/coordinator"

  name             = local.name
  account_id       = local.account_id
  namespace        = local.cluster_settings.namespace
  cluster          = module.cluster.identity
  hospital_buckets = local.hospital_buckets
  disposable       = var.disposable
  deletion_days    = var.key_deletion_days
}

module "hospital" {
  source   = "../modules/hospital"
  for_each = local.hospitals

  name              = local.name
  hospital          = each.key
  bucket            = each.value.bucket
  namespace         = each.value.namespace
  region            = local.region
  account_id        = local.account_id
  cluster           = module.cluster.identity
  identity          = var.hospital_identity
  deployers         = var.deployers
  ingest_principals = lookup(var.ingest_principals, each.key, [])
  upload_queue_arn  = module.coordinator.upload_queue.arn
  cohort            = local.cohort
  disposable        = var.disposable
  deletion_days     = var.key_deletion_days

  coordinator = {
    role_arn = module.coordinator.roles["coordinator"]
    bucket   = module.coordinator.buckets["coordinator"]
    key_arn  = module.coordinator.key_arn
  }
}

module "registry" {
  source = "../modules/registry"

  name          = local.name
  account_id    = local.account_id
  images        = var.images
  disposable    = var.disposable
  deletion_days = var.key_deletion_days
}

module "database" {
  source = "../modules/database"

  name                     = local.name
  account_id               = local.account_id
  vpc_id                   = module.network.vpc_id
  subnet_ids               = module.network.private_subnet_ids
  client_security_group_id = module.cluster.security_group_id
  postgres_version         = var.postgres_version
  instance_class           = var.database_class
  multi_az                 = var.database_multi_az
  log_key_arn              = module.log_key.arn
  log_days                 = var.log_days
  disposable               = var.disposable
  deletion_days            = var.key_deletion_days
}

module "secrets" {
  source = "../modules/secrets"

  name          = local.name
  account_id    = local.account_id
  secrets       = var.secrets
  disposable    = var.disposable
  deletion_days = var.key_deletion_days
}

module "observability" {
  source = "../modules/observability"

  name            = local.name
  region          = local.region
  account_id      = local.account_id
  watched_buckets = concat(local.hospital_buckets, [module.coordinator.buckets["coordinator"]])
  rejected_queue  = module.coordinator.rejected_queue
  database        = module.database.identifier
  emails          = var.alarm_emails
  monthly_budget  = var.monthly_budget
  trail_days      = var.trail_days
  disposable      = var.disposable
  deletion_days   = var.key_deletion_days
}
