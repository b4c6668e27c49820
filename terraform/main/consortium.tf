# What Terraform takes from consortium.yaml, the same file that Dagster and the hospitals read.
locals {
  consortium = yamldecode(file(var.consortium_file))
  name       = local.consortium.name
  region     = local.consortium.region
  account_id = data.aws_caller_identity.current.account_id
  tags       = { consortium = local.name, managed-by = "terraform" }

  cluster_settings   = merge({ namespace = "federated-learning", hospital_namespace = "fl-{hospital}" }, try(local.consortium.cluster, {}))
  hospital_namespace = local.cluster_settings.hospital_namespace

  hospitals = {
    for hospital in local.consortium.hospitals : hospital.name => {
      bucket    = trimprefix(replace(try(hospital.bucket, local.consortium.bucket), "{hospital}", hospital.name), "s3://")
      namespace = replace(local.hospital_namespace, "{hospital}", hospital.name)
    }
  }
  hospital_buckets = [for hospital in local.hospitals : hospital.bucket]

  # A cohort is named by its own file, which lies beside consortium.yaml, or is one that the package
  # brings.
  cohort_file = endswith(local.consortium.cohort, ".yaml") ? "${dirname(var.consortium_file)}/${local.consortium.cohort}" : "${path.root}/../../fl_assets/cohorts/${local.consortium.cohort}.yaml"
  cohort      = var.athena ? yamldecode(file(local.cohort_file)) : null
}
