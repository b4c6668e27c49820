output "name" {
  description = "Name of the consortium, the prefix of names."
  value       = local.name
}

output "region" {
  description = "Region of everything."
  value       = local.region
}

output "account_id" {
  description = "Account of everything."
  value       = local.account_id
}

output "vpc_id" {
  description = "VPC, which the load balancer controller must be told."
  value       = module.network.vpc_id
}

output "vpc_cidr" {
  description = "Addresses of the VPC, for network policies."
  value       = var.vpc_cidr
}

output "cluster_name" {
  description = "Name of the cluster, for aws eks update-kubeconfig."
  value       = module.cluster.identity.name
}

output "kubernetes_version" {
  description = "Minor version of Kubernetes, which the autoscaler's image follows."
  value       = var.kubernetes_version
}

output "cluster_endpoint" {
  description = "URL of the cluster's API."
  value       = module.cluster.endpoint
}

output "controller_roles" {
  description = "Roles of the controllers: ebs-csi, cluster-autoscaler, load-balancer."
  value       = module.cluster.controller_roles
}

output "node_role_arn" {
  description = "Role of the machines, which must reach no bucket: for the checks after a deployment."
  value       = module.cluster.node_role_arn
}

output "namespace" {
  description = "Namespace of Dagster's runs and of the server of a training."
  value       = local.cluster_settings.namespace
}

output "roles" {
  description = "Roles of coordinator, server and mlflow, for the annotation eks.amazonaws.com/role-arn."
  value       = module.coordinator.roles
}

output "coordinator_uri" {
  description = "FLA_COORDINATOR."
  value       = "s3://${module.coordinator.buckets["coordinator"]}"
}

output "mlflow_uri" {
  description = "Where MLflow keeps artefacts."
  value       = "s3://${module.coordinator.buckets["mlflow"]}"
}

output "upload_queue_url" {
  description = "FLA_UPLOAD_QUEUE."
  value       = module.coordinator.upload_queue.url
}

output "hospitals" {
  description = "Of each hospital: bucket, key, namespace, role of its pods and role that sends files."
  value = {
    for name, hospital in module.hospital : name => {
      bucket          = hospital.bucket
      key_arn         = hospital.key_arn
      namespace       = local.hospitals[name].namespace
      site_role_arn   = hospital.site_role_arn
      ingest_role_arn = hospital.ingest_role_arn
    }
  }
}

output "repositories" {
  description = "Repositories of the images."
  value       = module.registry.repositories
}

output "database_host" {
  description = "Host of Postgres; port 5432, TLS only."
  value       = module.database.host
}

output "database_administrator_secret_arn" {
  description = "Secret with the administrator's name and password, by which the deployment makes databases and users."
  value       = module.database.administrator_secret_arn
}

output "secret_arns" {
  description = "Secrets that the deployment fills and reads."
  value       = module.secrets.arns
}

output "alarm_topic_arn" {
  description = "Topic of alarms."
  value       = module.observability.alarm_topic_arn
}
