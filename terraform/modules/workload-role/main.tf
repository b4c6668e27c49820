locals {
  # StringEquals on subject and audience: with a wildcard a new account in any namespace would do.
  web_identity = {
    Effect    = "Allow"
    Principal = { Federated = var.cluster.issuer_arn }
    Action    = ["sts:AssumeRoleWithWebIdentity"]
    Condition = {
      StringEquals = {
        "${var.cluster.issuer}:sub" = [for account in var.accounts : "system:serviceaccount:${replace(account, "/", ":")}"]
        "${var.cluster.issuer}:aud" = "sts.amazonaws.com"
      }
    }
  }

  # Every role for pods trusts the same service, so that cluster and account must be named: EKS tells
  # them, and whoever may associate roles with accounts cannot give this one to another.
  pod_identity = {
    Effect    = "Allow"
    Principal = { Service = "pods.eks.amazonaws.com" }
    Action    = ["sts:AssumeRole", "sts:TagSession"]
    Condition = {
      StringEquals = {
        "aws:SourceAccount"                         = var.cluster.account_id
        "aws:RequestTag/kubernetes-namespace"       = [for account in var.accounts : split("/", account)[0]]
        "aws:RequestTag/kubernetes-service-account" = [for account in var.accounts : split("/", account)[1]]
      }
      ArnEquals = { "aws:SourceArn" = var.cluster.arn }
    }
  }

  trust = {
    irsa         = jsonencode({ Version = "2012-10-17", Statement = [local.web_identity] })
    pod-identity = jsonencode({ Version = "2012-10-17", Statement = [local.pod_identity] })
  }
}

resource "aws_iam_role" "this" {
  name                 = var.name
  description          = var.description
  permissions_boundary = "arn:aws:iam::${var.cluster.account_id}:policy/${var.cluster.name}-boundary"
  assume_role_policy   = local.trust[var.identity]
  tags                 = var.tags
}

resource "aws_iam_role_policy" "this" {
  for_each = var.policies

  name   = each.key
  role   = aws_iam_role.this.id
  policy = each.value
}

resource "aws_iam_role_policy_attachment" "this" {
  for_each = var.managed_policies

  role       = aws_iam_role.this.name
  policy_arn = "arn:aws:iam::aws:policy/${each.value}"
}

resource "aws_eks_pod_identity_association" "this" {
  for_each = toset(var.identity == "pod-identity" ? var.accounts : [])

  cluster_name    = var.cluster.name
  namespace       = split("/", each.value)[0]
  service_account = split("/", each.value)[1]
  role_arn        = aws_iam_role.this.arn
  tags            = var.tags
}
