locals {
  issuer = "token.actions.githubusercontent.com"

  on_main        = "repo:${var.github_repository}:ref:refs/heads/main"
  in_environment = "repo:${var.github_repository}:environment:${var.github_environment}"

  roles = {
    plan   = { subjects = [local.on_main], statements = local.plan }
    apply  = { subjects = [local.in_environment], statements = local.apply }
    images = { subjects = [local.on_main], statements = local.images }
    deploy = { subjects = [local.in_environment], statements = local.deploy }
  }
}

resource "aws_iam_openid_connect_provider" "github" {
  count = var.github_provider_exists ? 0 : 1

  url            = "https://${local.issuer}"
  client_id_list = ["sts.amazonaws.com"]
}

resource "aws_iam_role" "github" {
  #checkov:skip=CKV_AWS_393: each subject names repository and branch or environment; checkov does not see it through for_each, and a test does
  for_each = local.roles

  name                 = "${var.name}-github-${each.key}"
  description          = "Workflows of ${var.github_repository}: ${each.key}"
  max_session_duration = 7200

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Federated = "arn:aws:iam::${local.account_id}:oidc-provider/${local.issuer}" }
      Action    = ["sts:AssumeRoleWithWebIdentity"]
      Condition = {
        StringEquals = {
          "${local.issuer}:sub" = each.value.subjects
          "${local.issuer}:aud" = "sts.amazonaws.com"
        }
      }
    }]
  })

  depends_on = [aws_iam_openid_connect_provider.github]
}

resource "aws_iam_role_policy" "github" {
  for_each = local.roles

  name   = each.key
  role   = aws_iam_role.github[each.key].id
  policy = jsonencode({ Version = "2012-10-17", Statement = each.value.statements })
}
