# What the workflows' roles may do. None of these rights reads a row: the hospitals' buckets and keys
# trust none of the roles. Two of them have power over the cluster, though, where the hospitals' pods
# run: `apply` may replace its machines, and give itself or others access to it, and `deploy`
# administrates it. Whoever approves for the protected environment approves that. CloudTrail and the
# cluster's audit log show it; only another account, or a policy of the organisation, would prevent it.
locals {
  state    = "arn:aws:s3:::${var.state_bucket}"
  own      = "arn:aws:iam::${local.account_id}:role/${var.name}-*"
  boundary = "arn:aws:iam::${local.account_id}:policy/${var.name}-boundary"

  read_state = [
    {
      Sid      = "FindState"
      Effect   = "Allow"
      Action   = ["s3:ListBucket"]
      Resource = [local.state]
    },
    {
      Sid      = "ReadState"
      Effect   = "Allow"
      Action   = ["s3:GetObject"]
      Resource = ["${local.state}/*.tfstate"]
    },
    {
      Sid      = "LockState"
      Effect   = "Allow"
      Action   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
      Resource = ["${local.state}/*.tflock"]
    },
    {
      Sid      = "StateKey"
      Effect   = "Allow"
      Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
      Resource = [module.key.arn]
    },
  ]

  # How things are set up, and nothing of what is in them.
  plan = concat(local.read_state, [{
    Sid    = "Look"
    Effect = "Allow"
    Action = [
      "autoscaling:Describe*",
      "budgets:ListTagsForResource",
      "budgets:ViewBudget",
      "cloudtrail:Describe*",
      "cloudtrail:GetEventSelectors",
      "cloudtrail:GetTrail",
      "cloudtrail:GetTrailStatus",
      "cloudtrail:ListTags",
      "cloudwatch:DescribeAlarms",
      "cloudwatch:ListTagsForResource",
      "ec2:Describe*",
      "ecr:DescribeRepositories",
      "ecr:GetLifecyclePolicy",
      "ecr:ListTagsForResource",
      "eks:Describe*",
      "eks:List*",
      "glue:GetDatabase",
      "glue:GetTable",
      "glue:GetTags",
      "iam:GetOpenIDConnectProvider",
      "iam:GetPolicy",
      "iam:GetPolicyVersion",
      "iam:GetRole",
      "iam:GetRolePolicy",
      "iam:ListAttachedRolePolicies",
      "iam:ListInstanceProfilesForRole",
      "iam:ListOpenIDConnectProviderTags",
      "iam:ListRolePolicies",
      "iam:ListRoleTags",
      "kms:DescribeKey",
      "kms:GetKeyPolicy",
      "kms:GetKeyRotationStatus",
      "kms:ListAliases",
      "kms:ListResourceTags",
      "logs:DescribeLogGroups",
      "logs:ListTagsForResource",
      "rds:Describe*",
      "rds:ListTagsForResource",
      "s3:GetAccelerateConfiguration",
      "s3:GetBucket*",
      "s3:GetEncryptionConfiguration",
      "s3:GetLifecycleConfiguration",
      "s3:GetReplicationConfiguration",
      "s3:ListBucket",
      "secretsmanager:DescribeSecret",
      "secretsmanager:GetResourcePolicy",
      "sns:GetSubscriptionAttributes",
      "sns:GetTopicAttributes",
      "sns:ListTagsForResource",
      "sqs:GetQueueAttributes",
      "sqs:ListQueueTags",
    ]
    Resource = ["*"]
  }])

  apply = [
    {
      Sid    = "Services"
      Effect = "Allow"
      Action = [
        "autoscaling:*",
        "budgets:*",
        "cloudtrail:*",
        "cloudwatch:*",
        "ec2:*",
        "ecr:*",
        "eks:*",
        "glue:*",
        "kms:*",
        "logs:*",
        "rds:*",
        "s3:*",
        "secretsmanager:*",
        "sns:*",
        "sqs:*",
      ]
      Resource = ["*"]
    },
    {
      Sid    = "OwnRoles"
      Effect = "Allow"
      Action = [
        "iam:DeleteRole",
        "iam:GetRole",
        "iam:GetRolePolicy",
        "iam:ListAttachedRolePolicies",
        "iam:ListInstanceProfilesForRole",
        "iam:ListRolePolicies",
        "iam:ListRoleTags",
        "iam:PassRole",
        "iam:TagRole",
        "iam:UntagRole",
        "iam:UpdateAssumeRolePolicy",
        "iam:UpdateRole",
        "iam:UpdateRoleDescription",
      ]
      Resource = [local.own]
    },
    # Whatever a role is given, it can do no more than the boundary, which this role cannot change.
    {
      Sid    = "RightsWithinTheBoundary"
      Effect = "Allow"
      Action = [
        "iam:AttachRolePolicy",
        "iam:CreateRole",
        "iam:DeleteRolePolicy",
        "iam:DetachRolePolicy",
        "iam:PutRolePermissionsBoundary",
        "iam:PutRolePolicy",
      ]
      Resource  = [local.own]
      Condition = { StringEquals = { "iam:PermissionsBoundary" = local.boundary } }
    },
    {
      Sid    = "Issuers"
      Effect = "Allow"
      Action = ["iam:*OpenIDConnectProvider*"]
      Resource = [
        "arn:aws:iam::${local.account_id}:oidc-provider/oidc.eks.*",
        "arn:aws:iam::${local.account_id}:oidc-provider/${local.issuer}",
      ]
    },
    {
      Sid      = "ServiceRoles"
      Effect   = "Allow"
      Action   = ["iam:CreateServiceLinkedRole"]
      Resource = ["arn:aws:iam::${local.account_id}:role/aws-service-role/*"]
    },
    # The pipeline must not give itself more than this.
    {
      Sid       = "NotItself"
      Effect    = "Deny"
      NotAction = ["iam:GetRole*", "iam:List*"]
      Resource  = ["arn:aws:iam::${local.account_id}:role/${var.name}-github-*"]
    },
    # Who is a hospital's pod, and what its key trusts, is an administrator's to change. A role that is
    # deleted and made anew with another trust is of no use: a key knows the old one, not its name.
    {
      Sid      = "NotASitesTrust"
      Effect   = "Deny"
      Action   = ["iam:UpdateAssumeRolePolicy"]
      Resource = ["arn:aws:iam::${local.account_id}:role/${var.name}-*-site"]
    },
    {
      Sid       = "NotAHospitalsKey"
      Effect    = "Deny"
      Action    = ["kms:PutKeyPolicy", "kms:UntagResource"]
      Resource  = ["*"]
      Condition = { Null = { "aws:ResourceTag/hospital" = "false" } }
    },
    {
      Sid         = "NoObjects"
      Effect      = "Deny"
      Action      = ["s3:GetObject*", "s3:PutObject*"]
      NotResource = ["${local.state}/*"]
    },
    {
      Sid      = "NoSecrets"
      Effect   = "Deny"
      Action   = ["secretsmanager:GetSecretValue", "secretsmanager:BatchGetSecretValue"]
      Resource = ["*"]
    },
  ]

  images = [
    {
      Sid      = "LogIn"
      Effect   = "Allow"
      Action   = ["ecr:GetAuthorizationToken"]
      Resource = ["*"]
    },
    {
      Sid    = "Push"
      Effect = "Allow"
      Action = [
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:CompleteLayerUpload",
        "ecr:DescribeImageScanFindings",
        "ecr:DescribeImages",
        "ecr:GetDownloadUrlForLayer",
        "ecr:InitiateLayerUpload",
        "ecr:PutImage",
        "ecr:UploadLayerPart",
      ]
      Resource = ["arn:aws:ecr:${var.region}:${local.account_id}:repository/${var.name}/*"]
    },
  ]

  # What it may do inside the cluster is said by the cluster's access entry.
  deploy = concat(local.read_state, [
    {
      Sid      = "FindCluster"
      Effect   = "Allow"
      Action   = ["eks:DescribeCluster"]
      Resource = ["arn:aws:eks:${var.region}:${local.account_id}:cluster/${var.name}"]
    },
    {
      Sid      = "FindImages"
      Effect   = "Allow"
      Action   = ["ecr:DescribeImages"]
      Resource = ["arn:aws:ecr:${var.region}:${local.account_id}:repository/${var.name}/*"]
    },
    {
      Sid    = "Secrets"
      Effect = "Allow"
      Action = ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue"]
      Resource = [
        "arn:aws:secretsmanager:${var.region}:${local.account_id}:secret:${var.name}/*",
        "arn:aws:secretsmanager:${var.region}:${local.account_id}:secret:rds!*",
      ]
    },
    {
      Sid       = "SecretKeys"
      Effect    = "Allow"
      Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
      Resource  = ["arn:aws:kms:${var.region}:${local.account_id}:key/*"]
      Condition = { StringEquals = { "kms:ViaService" = "secretsmanager.${var.region}.amazonaws.com" } }
    },
  ])
}
