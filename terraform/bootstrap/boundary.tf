# The most that any role of the consortium can do. Roles that `main` makes must bear it, or the
# workflow that applies could make one that may everything, and take it.
locals {
  workloads = [
    {
      Sid    = "Workloads"
      Effect = "Allow"
      Action = [
        "acm:Describe*",
        "acm:List*",
        "autoscaling:*",
        "cognito-idp:Describe*",
        "ec2:*",
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:BatchImportUpstreamImage",
        "ecr:GetAuthorizationToken",
        "ecr:GetDownloadUrlForLayer",
        "eks-auth:AssumeRoleForPodIdentity",
        "eks:Describe*",
        "elasticloadbalancing:*",
        "kms:Decrypt",
        "kms:DescribeKey",
        "kms:Encrypt",
        "kms:GenerateDataKey*",
        "logs:CreateLogStream",
        "logs:DescribeLogStreams",
        "logs:PutLogEvents",
        "s3:AbortMultipartUpload",
        "s3:DeleteObject*",
        "s3:GetBucketVersioning",
        "s3:GetObject*",
        "s3:List*",
        "s3:PutObject",
        "sqs:DeleteMessage",
        "sqs:ReceiveMessage",
      ]
      Resource = ["*"]
    },
    {
      Sid      = "LoadBalancersOwnRole"
      Effect   = "Allow"
      Action   = ["iam:CreateServiceLinkedRole"]
      Resource = ["arn:aws:iam::${local.account_id}:role/aws-service-role/*"]
    },
    {
      Sid      = "NoState"
      Effect   = "Deny"
      Action   = ["s3:*"]
      Resource = [local.state, "${local.state}/*"]
    },
  ]
}

resource "aws_iam_policy" "boundary" {
  name        = "${var.name}-boundary"
  description = "The most that any role of ${var.name} can do"
  policy      = jsonencode({ Version = "2012-10-17", Statement = local.workloads })
}
