locals {
  account_id = data.aws_caller_identity.current.account_id
}

module "key" {
  source = "../modules/key"

  name        = "${var.name}-terraform"
  description = "Terraform's states of ${var.name}"
  account_id  = local.account_id
}

module "state" {
  source = "../modules/bucket"

  name             = var.state_bucket
  key_arn          = module.key.arn
  old_version_days = 365

  depends_on = [module.key]
}
