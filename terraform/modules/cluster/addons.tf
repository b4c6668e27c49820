locals {
  addons = merge(
    {
      # Without it NetworkPolicies are accepted and mean nothing.
      vpc-cni            = jsonencode({ enableNetworkPolicy = "true" })
      kube-proxy         = null
      coredns            = null
      aws-ebs-csi-driver = null
    },
    contains([var.controller_identity, var.hospital_identity], "pod-identity") ? { eks-pod-identity-agent = null } : {},
  )
}

data "aws_eks_addon_version" "this" {
  for_each = local.addons

  addon_name         = each.key
  kubernetes_version = var.kubernetes_version
}

resource "aws_eks_addon" "this" {
  for_each = local.addons

  cluster_name             = aws_eks_cluster.this.name
  addon_name               = each.key
  addon_version            = data.aws_eks_addon_version.this[each.key].version
  configuration_values     = each.value
  service_account_role_arn = each.key == "aws-ebs-csi-driver" && var.controller_identity == "irsa" ? module.controller["ebs-csi"].arn : null
  # EKS puts some of them in by itself when it makes a cluster.
  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "OVERWRITE"

  # CoreDNS is not healthy before there is a node, and an add-on that is not healthy has failed.
  depends_on = [aws_eks_node_group.this]
}
