locals {
  trail_arn   = "arn:aws:cloudtrail:${var.region}:${var.account_id}:trail/${var.name}"
  trail_store = "${var.name}-trail-${var.account_id}"
}

module "trail_key" {
  source = "../key"

  name          = "${var.name}-trail"
  description   = "Audit trail of ${var.name}"
  account_id    = var.account_id
  deletion_days = var.deletion_days

  statements = [{
    Sid       = "CloudTrail"
    Effect    = "Allow"
    Principal = { Service = "cloudtrail.amazonaws.com" }
    Action    = ["kms:GenerateDataKey*", "kms:DescribeKey"]
    Resource  = ["*"]
    Condition = { StringEquals = { "aws:SourceArn" = local.trail_arn } }
  }]
}

module "trail_bucket" {
  source = "../bucket"

  name            = local.trail_store
  key_arn         = module.trail_key.arn
  expiration_days = var.trail_days
  disposable      = var.disposable

  statements = [
    {
      Sid       = "TrailAsks"
      Effect    = "Allow"
      Principal = { Service = "cloudtrail.amazonaws.com" }
      Action    = ["s3:GetBucketAcl"]
      Resource  = ["arn:aws:s3:::${local.trail_store}"]
      Condition = { StringEquals = { "aws:SourceArn" = local.trail_arn } }
    },
    {
      Sid       = "TrailWrites"
      Effect    = "Allow"
      Principal = { Service = "cloudtrail.amazonaws.com" }
      Action    = ["s3:PutObject"]
      Resource  = ["arn:aws:s3:::${local.trail_store}/AWSLogs/${var.account_id}/*"]
      Condition = { StringEquals = { "aws:SourceArn" = local.trail_arn } }
    },
  ]

  depends_on = [module.trail_key]
}

resource "aws_cloudtrail" "this" {
  #checkov:skip=CKV2_AWS_10: CloudWatch would bill every event a second time; the trail is read in its bucket
  #checkov:skip=CKV_AWS_252: a message for every file of the trail tells nobody anything
  name                          = var.name
  s3_bucket_name                = module.trail_bucket.name
  kms_key_id                    = module.trail_key.arn
  is_multi_region_trail         = true
  include_global_service_events = true
  enable_log_file_validation    = true

  advanced_event_selector {
    name = "What was done to the account"

    field_selector {
      field  = "eventCategory"
      equals = ["Management"]
    }
  }

  advanced_event_selector {
    name = "Every request for an object of a hospital"

    field_selector {
      field  = "eventCategory"
      equals = ["Data"]
    }

    field_selector {
      field  = "resources.type"
      equals = ["AWS::S3::Object"]
    }

    field_selector {
      field       = "resources.ARN"
      starts_with = [for bucket in var.watched_buckets : "arn:aws:s3:::${bucket}/"]
    }
  }
}
