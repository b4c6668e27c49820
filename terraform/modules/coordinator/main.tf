locals {
  bucket_names = {
    coordinator = "${var.name}-coordinator-${var.account_id}"
    mlflow      = "${var.name}-mlflow-${var.account_id}"
  }
}

module "key" {
  source   = "../key"
  for_each = local.bucket_names

  name          = "${var.name}-${each.key}"
  description   = "Objects of ${each.value}"
  account_id    = var.account_id
  deletion_days = var.deletion_days
}

module "bucket" {
  source   = "../bucket"
  for_each = local.bucket_names

  name             = each.value
  key_arn          = module.key[each.key].arn
  old_version_days = 90
  disposable       = var.disposable

  depends_on = [module.key]
}

module "role" {
  source = "../workload-role"
  for_each = {
    coordinator = ["mlops/dagster", "${var.namespace}/coordinator"]
    server      = ["${var.namespace}/server"]
    mlflow      = ["mlops/mlflow"]
  }

  name        = "${var.name}-${each.key}"
  description = "Pods of ${each.key}"
  cluster     = var.cluster
  accounts    = each.value
  policies    = local.policies[each.key]
}
