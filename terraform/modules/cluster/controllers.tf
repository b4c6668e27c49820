locals {
  identity = {
    name       = aws_eks_cluster.this.name
    arn        = aws_eks_cluster.this.arn
    account_id = var.account_id
    issuer     = replace(aws_eks_cluster.this.identity[0].oidc[0].issuer, "https://", "")
    issuer_arn = aws_iam_openid_connect_provider.this.arn
  }

  # What the load balancer controller made for this cluster bears this tag, and it may change
  # nothing else.
  made_for_cluster = { StringEquals = { "aws:ResourceTag/elbv2.k8s.aws/cluster" = var.name } }
  make_for_cluster = { StringEquals = { "aws:RequestTag/elbv2.k8s.aws/cluster" = var.name } }

  controllers = {
    ebs-csi = {
      account = "kube-system/ebs-csi-controller-sa"
      managed = ["service-role/AmazonEBSCSIDriverPolicy"]
      policy  = null
    }
    cluster-autoscaler = {
      account = "kube-system/cluster-autoscaler"
      managed = []
      policy  = jsonencode({ Version = "2012-10-17", Statement = local.autoscaling })
    }
    load-balancer = {
      account = "kube-system/aws-load-balancer-controller"
      managed = []
      policy  = jsonencode({ Version = "2012-10-17", Statement = local.load_balancing })
    }
  }

  autoscaling = [
    {
      Sid    = "See"
      Effect = "Allow"
      Action = [
        "autoscaling:DescribeAutoScalingGroups",
        "autoscaling:DescribeAutoScalingInstances",
        "autoscaling:DescribeLaunchConfigurations",
        "autoscaling:DescribeScalingActivities",
        "ec2:DescribeImages",
        "ec2:DescribeInstanceTypes",
        "ec2:DescribeLaunchTemplateVersions",
        "ec2:GetInstanceTypesFromInstanceRequirements",
        "eks:DescribeNodegroup",
      ]
      Resource = ["*"]
    },
    {
      Sid       = "Scale"
      Effect    = "Allow"
      Action    = ["autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup"]
      Resource  = ["*"]
      Condition = { StringEquals = { "aws:ResourceTag/k8s.io/cluster-autoscaler/${var.name}" = "owned" } }
    },
  ]

  load_balancing = [
    {
      Sid    = "See"
      Effect = "Allow"
      Action = [
        "acm:DescribeCertificate",
        "acm:ListCertificates",
        "cognito-idp:DescribeUserPoolClient",
        "ec2:DescribeAccountAttributes",
        "ec2:DescribeAddresses",
        "ec2:DescribeAvailabilityZones",
        "ec2:DescribeInstances",
        "ec2:DescribeInternetGateways",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeRouteTables",
        "ec2:DescribeSecurityGroups",
        "ec2:DescribeSubnets",
        "ec2:DescribeTags",
        "ec2:DescribeVpcs",
        "ec2:GetSecurityGroupsForVpc",
        "elasticloadbalancing:Describe*",
      ]
      Resource = ["*"]
    },
    {
      Sid    = "MakeGroup"
      Effect = "Allow"
      Action = ["ec2:CreateSecurityGroup"]
      Resource = [
        "arn:aws:ec2:*:${var.account_id}:security-group/*",
        "arn:aws:ec2:*:${var.account_id}:vpc/*",
      ]
    },
    {
      Sid       = "TagNewGroup"
      Effect    = "Allow"
      Action    = ["ec2:CreateTags"]
      Resource  = ["arn:aws:ec2:*:${var.account_id}:security-group/*"]
      Condition = merge(local.make_for_cluster, { StringLike = { "ec2:CreateAction" = "CreateSecurityGroup" } })
    },
    {
      Sid    = "ChangeGroups"
      Effect = "Allow"
      Action = [
        "ec2:AuthorizeSecurityGroupIngress",
        "ec2:CreateTags",
        "ec2:DeleteSecurityGroup",
        "ec2:DeleteTags",
        "ec2:RevokeSecurityGroupIngress",
      ]
      Resource  = ["arn:aws:ec2:*:${var.account_id}:security-group/*"]
      Condition = local.made_for_cluster
    },
    # EKS made the nodes' group, which has another tag; the load balancer must be let in there.
    {
      Sid       = "OpenNodes"
      Effect    = "Allow"
      Action    = ["ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress"]
      Resource  = ["arn:aws:ec2:*:${var.account_id}:security-group/*"]
      Condition = { StringEquals = { "aws:ResourceTag/kubernetes.io/cluster/${var.name}" = "owned" } }
    },
    {
      Sid       = "Make"
      Effect    = "Allow"
      Action    = ["elasticloadbalancing:CreateLoadBalancer", "elasticloadbalancing:CreateTargetGroup"]
      Resource  = ["*"]
      Condition = local.make_for_cluster
    },
    {
      Sid       = "TagNew"
      Effect    = "Allow"
      Action    = ["elasticloadbalancing:AddTags"]
      Resource  = ["*"]
      Condition = merge(local.make_for_cluster, { StringLike = { "elasticloadbalancing:CreateAction" = ["CreateLoadBalancer", "CreateTargetGroup", "CreateListener", "CreateRule"] } })
    },
    {
      Sid    = "Change"
      Effect = "Allow"
      Action = [
        "elasticloadbalancing:AddListenerCertificates",
        "elasticloadbalancing:AddTags",
        "elasticloadbalancing:CreateListener",
        "elasticloadbalancing:CreateRule",
        "elasticloadbalancing:Delete*",
        "elasticloadbalancing:DeregisterTargets",
        "elasticloadbalancing:Modify*",
        "elasticloadbalancing:RegisterTargets",
        "elasticloadbalancing:RemoveListenerCertificates",
        "elasticloadbalancing:RemoveTags",
        "elasticloadbalancing:Set*",
      ]
      Resource  = ["*"]
      Condition = local.made_for_cluster
    },
  ]
}

module "controller" {
  source   = "../workload-role"
  for_each = local.controllers

  name             = "${var.name}-${each.key}"
  description      = "Controller ${each.key} of the cluster"
  cluster          = local.identity
  accounts         = [each.value.account]
  identity         = var.controller_identity
  policies         = { for name, policy in { own = each.value.policy } : name => policy if policy != null }
  managed_policies = toset(each.value.managed)
}
