module "key" {
  source = "../key"

  name          = "${var.name}-secrets"
  description   = "Passwords of Dagster, MLflow, Grafana and the ingress"
  account_id    = var.account_id
  deletion_days = var.deletion_days
}

# Entries alone. Whoever deploys puts the values in, so that no state and no plan has them.
resource "aws_secretsmanager_secret" "this" {
  #checkov:skip=CKV2_AWS_57: rotation needs a function of one's own for each kind of password; a run-book has the steps
  for_each = var.secrets

  name                    = "${var.name}/${each.key}"
  description             = each.value
  kms_key_id              = module.key.arn
  recovery_window_in_days = var.disposable ? 0 : 30
}
