locals {
  store = "arn:aws:s3:::${local.bucket_names.coordinator}"

  # What fl_assets' S3Store asks of a bucket, as in fl_assets/storage/policies.py: the coordinator in
  # its whole store, the server of a training under runs/ and, as a witness of what hospitals say of
  # their ledgers, under ledgers/.
  storing = {
    for name, prefixes in { coordinator = [""], server = ["runs/", "ledgers/"] } : name => concat(
      [
        {
          Sid       = "Bucket"
          Effect    = "Allow"
          Action    = ["s3:GetBucketVersioning"]
          Resource  = [local.store]
          Condition = null
        },
        {
          Sid       = "List"
          Effect    = "Allow"
          Action    = ["s3:ListBucket", "s3:ListBucketVersions"]
          Resource  = [local.store]
          Condition = name == "coordinator" ? null : { StringLike = { "s3:prefix" = [for each in prefixes : "${each}*"] } }
        },
        # AWS knows no prefix of this action.
        {
          Sid       = "Uploads"
          Effect    = "Allow"
          Action    = ["s3:ListBucketMultipartUploads"]
          Resource  = [local.store]
          Condition = null
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
          Resource  = [for each in prefixes : "${local.store}/${each}*"]
          Condition = null
        },
        {
          Sid       = "Key"
          Effect    = "Allow"
          Action    = ["kms:GenerateDataKey", "kms:Decrypt"]
          Resource  = [module.key["coordinator"].arn]
          Condition = null
        },
      ]
    )
  }

  queue_reading = [{
    Effect   = "Allow"
    Action   = ["sqs:ReceiveMessage", "sqs:DeleteMessage"]
    Resource = [aws_sqs_queue.uploads.arn]
  }]

  artifacts = [
    {
      Sid      = "List"
      Effect   = "Allow"
      Action   = ["s3:ListBucket", "s3:ListBucketMultipartUploads"]
      Resource = ["arn:aws:s3:::${local.bucket_names.mlflow}"]
    },
    {
      Sid    = "Objects"
      Effect = "Allow"
      Action = [
        "s3:GetObject",
        "s3:PutObject",
        "s3:DeleteObject",
        "s3:AbortMultipartUpload",
        "s3:ListMultipartUploadParts",
      ]
      Resource = ["arn:aws:s3:::${local.bucket_names.mlflow}/*"]
    },
    {
      Sid      = "Key"
      Effect   = "Allow"
      Action   = ["kms:GenerateDataKey", "kms:Decrypt"]
      Resource = [module.key["mlflow"].arn]
    },
  ]

  statements = {
    coordinator = { store = local.storing.coordinator, uploads = local.queue_reading }
    server      = { store = local.storing.server }
    mlflow      = { artifacts = local.artifacts }
  }
  policies = {
    for role, policies in local.statements : role => {
      for name, statements in policies : name => jsonencode({
        Version   = "2012-10-17"
        Statement = [for each in statements : { for key, value in each : key => value if value != null }]
      })
    }
  }
}
