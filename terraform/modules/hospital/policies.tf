# The documents of fl_assets/storage/policies.py, which a test compares with these, and the bucket
# policy, which holds whatever other policies say.
locals {
  bucket  = "arn:aws:s3:::${var.bucket}"
  objects = "${local.bucket}/*"
  tasks   = "arn:aws:s3:::${var.coordinator.bucket}/tasks/${var.hospital}"
  site    = "arn:aws:iam::${var.account_id}:role/${local.prefix}-site"
  ingest  = "arn:aws:iam::${var.account_id}:role/${local.prefix}-ingest"

  manifests = [
    "records/intake.json",
    "records/manifest.json",
    "partitions/manifest.json",
    "profile/*",
    "egress/*",
    "ledger/*",
    "ledger-anchor.json",
  ]
  rows = [
    "incoming/*",
    "records/*.parquet",
    "partitions/*.parquet",
    "quarantine/*",
    "keys/*",
    "personal/*",
    "answers/*",
  ]
  manifest_arns     = [for pattern in local.manifests : "${local.bucket}/${pattern}"]
  coordinator_lists = concat(["incoming/*"], local.manifests)

  # AWS knows no prefix of the third, so that it is of the whole bucket or of nothing.
  listing         = concat(local.listing_objects, local.listing_uploads)
  listing_objects = ["s3:ListBucket", "s3:ListBucketVersions"]
  listing_uploads = ["s3:ListBucketMultipartUploads"]

  sending = ["s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]

  # An anonymous request has no PrincipalIsAWSService at all; AWS' own services, which have no
  # PrincipalArn, would be hit without it.
  nobody_of = {
    for name, arns in {
      objects = [local.site, local.ingest, var.coordinator.role_arn]
      listing = concat([local.site, local.ingest, var.coordinator.role_arn], var.deployers)
      } : name => {
      ArnNotEquals = { "aws:PrincipalArn" = arns }
      BoolIfExists = { "aws:PrincipalIsAWSService" = "false" }
    }
  }
  is_coordinator = { ArnEquals = { "aws:PrincipalArn" = var.coordinator.role_arn } }
  is_ingest      = { ArnEquals = { "aws:PrincipalArn" = local.ingest } }

  site_policy = [
    {
      Sid      = "Bucket"
      Effect   = "Allow"
      Action   = ["s3:GetBucketVersioning"]
      Resource = [local.bucket]
    },
    {
      Sid      = "List"
      Effect   = "Allow"
      Action   = local.listing_objects
      Resource = [local.bucket]
    },
    {
      Sid      = "Uploads"
      Effect   = "Allow"
      Action   = local.listing_uploads
      Resource = [local.bucket]
    },
    {
      Sid    = "Objects"
      Effect = "Allow"
      Action = [
        "s3:GetObject",
        "s3:GetObjectVersion",
        "s3:PutObject",
        "s3:DeleteObject",
        "s3:DeleteObjectVersion",
        "s3:AbortMultipartUpload",
        "s3:ListMultipartUploadParts",
      ]
      Resource = [local.objects]
    },
    {
      Sid      = "Key"
      Effect   = "Allow"
      Action   = ["kms:GenerateDataKey", "kms:Decrypt"]
      Resource = [module.key.arn]
    },
  ]

  # How the coordinator asks the hospital's pods for something, and how they answer.
  task_policy = [
    {
      Sid      = "Bucket"
      Effect   = "Allow"
      Action   = ["s3:GetBucketVersioning"]
      Resource = ["arn:aws:s3:::${var.coordinator.bucket}"]
    },
    {
      Sid      = "Requests"
      Effect   = "Allow"
      Action   = ["s3:GetObject"]
      Resource = ["${local.tasks}/*"]
    },
    {
      Sid      = "Answers"
      Effect   = "Allow"
      Action   = ["s3:PutObject"]
      Resource = ["${local.tasks}/*/answer.json"]
    },
    {
      Sid       = "Key"
      Effect    = "Allow"
      Action    = ["kms:GenerateDataKey", "kms:Decrypt"]
      Resource  = [var.coordinator.key_arn]
      Condition = { StringLike = { "kms:EncryptionContext:aws:s3:arn" = ["${local.tasks}/*"] } }
    },
  ]

  ingest_policy = [
    {
      Sid      = "Bucket"
      Effect   = "Allow"
      Action   = ["s3:GetBucketVersioning"]
      Resource = [local.bucket]
    },
    {
      Sid       = "List"
      Effect    = "Allow"
      Action    = local.listing_objects
      Resource  = [local.bucket]
      Condition = { StringLike = { "s3:prefix" = ["incoming/*"] } }
    },
    # By which an upload that broke off is taken up. It shows the keys of others that are open.
    {
      Sid      = "Uploads"
      Effect   = "Allow"
      Action   = local.listing_uploads
      Resource = [local.bucket]
    },
    {
      Sid      = "Send"
      Effect   = "Allow"
      Action   = local.sending
      Resource = ["${local.bucket}/incoming/*"]
    },
    {
      Sid       = "Key"
      Effect    = "Allow"
      Action    = ["kms:GenerateDataKey", "kms:Decrypt"]
      Resource  = [module.key.arn]
      Condition = { StringLike = { "kms:EncryptionContext:aws:s3:arn" = ["${local.bucket}/incoming/*"] } }
    },
  ]

  # In the bucket's policy and not in the coordinator's: IAM has room there for a few hospitals
  # only, and it is the hospital that says what may be seen of it.
  coordinator_policy = [
    {
      Sid       = "Bucket"
      Effect    = "Allow"
      Principal = { AWS = var.coordinator.role_arn }
      Action    = ["s3:GetBucketVersioning"]
      Resource  = [local.bucket]
    },
    {
      Sid       = "List"
      Effect    = "Allow"
      Principal = { AWS = var.coordinator.role_arn }
      Action    = ["s3:ListBucketVersions"]
      Resource  = [local.bucket]
      Condition = { StringLike = { "s3:prefix" = local.coordinator_lists } }
    },
    {
      Sid       = "Manifests"
      Effect    = "Allow"
      Principal = { AWS = var.coordinator.role_arn }
      Action    = ["s3:GetObject"]
      Resource  = local.manifest_arns
    },
    {
      Sid       = "Rows"
      Effect    = "Deny"
      Principal = { AWS = var.coordinator.role_arn }
      Action    = ["s3:GetObject", "s3:GetObjectVersion"]
      Resource  = [for pattern in local.rows : "${local.bucket}/${pattern}"]
    },
  ]

  # Denials of actions on objects alone: one of s3:* would lock everybody but root out of the
  # bucket's own settings. On a resource of objects s3:* is all actions on objects, future ones too.
  bucket_policy = concat(local.coordinator_policy, [
    {
      Sid       = "OwnRolesAlone"
      Effect    = "Deny"
      Principal = "*"
      Action    = ["s3:*"]
      Resource  = [local.objects]
      Condition = local.nobody_of.objects
    },
    {
      Sid       = "OwnRolesListAlone"
      Effect    = "Deny"
      Principal = "*"
      Action    = local.listing
      Resource  = [local.bucket]
      Condition = local.nobody_of.listing
    },
    {
      Sid       = "CoordinatorReadsAlone"
      Effect    = "Deny"
      Principal = "*"
      NotAction = ["s3:GetObject"]
      Resource  = [local.objects]
      Condition = local.is_coordinator
    },
    {
      Sid         = "CoordinatorReadsManifestsAlone"
      Effect      = "Deny"
      Principal   = "*"
      Action      = ["s3:GetObject"]
      NotResource = local.manifest_arns
      Condition   = local.is_coordinator
    },
    # A listing names uploads and rows' versions. Without a prefix it is one of everything: a negated
    # condition holds where the request has no such key.
    {
      Sid       = "CoordinatorListsVersionsAlone"
      Effect    = "Deny"
      Principal = "*"
      Action    = ["s3:ListBucket", "s3:ListBucketMultipartUploads"]
      Resource  = [local.bucket]
      Condition = local.is_coordinator
    },
    {
      Sid       = "CoordinatorListsUploadsAndManifestsAlone"
      Effect    = "Deny"
      Principal = "*"
      Action    = ["s3:ListBucketVersions"]
      Resource  = [local.bucket]
      Condition = merge(local.is_coordinator, { StringNotLike = { "s3:prefix" = local.coordinator_lists } })
    },
    {
      Sid       = "IngestListsIncomingAlone"
      Effect    = "Deny"
      Principal = "*"
      Action    = local.listing_objects
      Resource  = [local.bucket]
      Condition = merge(local.is_ingest, { StringNotLike = { "s3:prefix" = ["incoming/*"] } })
    },
    {
      Sid       = "IngestSendsAlone"
      Effect    = "Deny"
      Principal = "*"
      NotAction = local.sending
      Resource  = [local.objects]
      Condition = local.is_ingest
    },
    {
      Sid         = "IngestSendsIncomingAlone"
      Effect      = "Deny"
      Principal   = "*"
      Action      = local.sending
      NotResource = ["${local.bucket}/incoming/*"]
      Condition   = local.is_ingest
    },
    # Null keeps requests that name no key, and so get the bucket's own, out of the denial.
    {
      Sid       = "OwnKeyAlone"
      Effect    = "Deny"
      Principal = "*"
      Action    = ["s3:PutObject"]
      Resource  = [local.objects]
      Condition = {
        Null            = { "s3:x-amz-server-side-encryption-aws-kms-key-id" = "false" }
        StringNotEquals = { "s3:x-amz-server-side-encryption-aws-kms-key-id" = module.key.arn }
      }
    },
    {
      Sid       = "KeyAlone"
      Effect    = "Deny"
      Principal = "*"
      Action    = ["s3:PutObject"]
      Resource  = [local.objects]
      Condition = {
        Null            = { "s3:x-amz-server-side-encryption" = "false" }
        StringNotEquals = { "s3:x-amz-server-side-encryption" = "aws:kms" }
      }
    },
  ])

  # Nobody in the account can give himself these rights by a policy of IAM: the key trusts none.
  through_s3 = { StringEquals = { "kms:ViaService" = "s3.${var.region}.amazonaws.com" } }
  key_policy = [
    {
      Sid       = "Site"
      Effect    = "Allow"
      Principal = { AWS = module.site.arn }
      Action    = ["kms:GenerateDataKey", "kms:Decrypt"]
      Resource  = ["*"]
      Condition = local.through_s3
    },
    {
      Sid       = "Ingest"
      Effect    = "Allow"
      Principal = { AWS = aws_iam_role.ingest.arn }
      Action    = ["kms:GenerateDataKey", "kms:Decrypt"]
      Resource  = ["*"]
      Condition = merge(local.through_s3, { StringLike = { "kms:EncryptionContext:aws:s3:arn" = ["${local.bucket}/incoming/*"] } })
    },
    {
      Sid       = "Coordinator"
      Effect    = "Allow"
      Principal = { AWS = var.coordinator.role_arn }
      Action    = ["kms:Decrypt"]
      Resource  = ["*"]
      Condition = merge(local.through_s3, { StringLike = { "kms:EncryptionContext:aws:s3:arn" = local.manifest_arns } })
    },
  ]
}
