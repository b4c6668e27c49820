locals {
  prefix = "${var.name}-${var.hospital}"
  tags   = { hospital = var.hospital }
}

module "key" {
  source = "../key"

  name          = local.prefix
  description   = "Objects of ${var.hospital}"
  account_id    = var.account_id
  delegated     = false
  statements    = local.key_policy
  deletion_days = var.deletion_days
  tags          = local.tags
}

module "bucket" {
  source = "../bucket"

  name       = var.bucket
  key_arn    = module.key.arn
  statements = local.bucket_policy
  disposable = var.disposable
  tags       = local.tags

  # So that the bucket goes first: where S3 refuses, since it is not empty, the key stays as well.
  depends_on = [module.key]
}

module "site" {
  source = "../workload-role"

  name        = "${local.prefix}-site"
  description = "Pods of ${var.hospital}, the only ones that read its rows"
  cluster     = var.cluster
  accounts    = ["${var.namespace}/site"]
  identity    = var.identity
  tags        = local.tags
}

# Beside the role and not in its module: they name the key, whose policy names the role.
resource "aws_iam_role_policy" "site" {
  for_each = { store = local.site_policy, tasks = local.task_policy }

  name   = each.key
  role   = module.site.name
  policy = jsonencode({ Version = "2012-10-17", Statement = each.value })
}

resource "aws_iam_role" "ingest" {
  name                 = "${local.prefix}-ingest"
  description          = "Sends files of ${var.hospital} into incoming/"
  permissions_boundary = "arn:aws:iam::${var.account_id}:policy/${var.name}-boundary"
  tags                 = local.tags

  # A role must say whom it trusts: nobody, until somebody is named.
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = length(var.ingest_principals) > 0 ? "Allow" : "Deny"
      Principal = { AWS = length(var.ingest_principals) > 0 ? var.ingest_principals : ["*"] }
      Action    = ["sts:AssumeRole"]
    }]
  })
}

resource "aws_iam_role_policy" "ingest" {
  name   = "send"
  role   = aws_iam_role.ingest.id
  policy = jsonencode({ Version = "2012-10-17", Statement = local.ingest_policy })
}

resource "aws_s3_bucket_notification" "uploads" {
  bucket = module.bucket.name

  queue {
    queue_arn     = var.upload_queue_arn
    events        = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]
    filter_prefix = "incoming/"
  }
}
