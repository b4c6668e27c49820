module "key" {
  source = "../key"

  name          = "${var.name}-database"
  description   = "Database of Dagster and MLflow, and its master password"
  account_id    = var.account_id
  deletion_days = var.deletion_days
}

resource "aws_db_subnet_group" "this" {
  name       = var.name
  subnet_ids = var.subnet_ids
}

resource "aws_security_group" "this" {
  name        = "${var.name}-database"
  description = "Database of Dagster and MLflow"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "nodes" {
  security_group_id            = aws_security_group.this.id
  description                  = "Postgres from the cluster; network policies say from which pods"
  referenced_security_group_id = var.client_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}

resource "aws_db_parameter_group" "this" {
  name   = "${var.name}-postgres${var.postgres_version}"
  family = "postgres${var.postgres_version}"

  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }

  parameter {
    name  = "log_statement"
    value = "ddl"
  }

  parameter {
    name  = "log_min_duration_statement"
    value = "1000"
  }

  # A new major version is a new group, and the instance must leave the old one first.
  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/aws/rds/instance/${var.name}/postgresql"
  retention_in_days = var.log_days
  kms_key_id        = var.log_key_arn
}

# One instance for two databases, dagster and mlflow. The deployment makes them, so that each belongs
# to its own user: one that RDS made would belong to the administrator.
resource "aws_db_instance" "this" {
  #checkov:skip=CKV_AWS_157: two zones cost twice as much, and are a variable
  #checkov:skip=CKV_AWS_118: per-second figures of the operating system need an agent and tell little of a database this small
  #checkov:skip=CKV_AWS_293: on by default; off only for an account that is to be emptied
  identifier     = var.name
  engine         = "postgres"
  engine_version = var.postgres_version
  instance_class = var.instance_class
  multi_az       = var.multi_az

  allocated_storage     = 20
  max_allocated_storage = 200
  storage_type          = "gp3"
  storage_encrypted     = true
  kms_key_id            = module.key.arn

  # Made, kept and changed by Secrets Manager: it is in no state and no plan.
  username                            = "administrator"
  manage_master_user_password         = true
  master_user_secret_kms_key_id       = module.key.arn
  iam_database_authentication_enabled = true

  db_subnet_group_name   = aws_db_subnet_group.this.name
  parameter_group_name   = aws_db_parameter_group.this.name
  vpc_security_group_ids = [aws_security_group.this.id]
  publicly_accessible    = false

  backup_retention_period    = 14
  copy_tags_to_snapshot      = true
  auto_minor_version_upgrade = true
  deletion_protection        = !var.disposable
  skip_final_snapshot        = var.disposable
  final_snapshot_identifier  = var.disposable ? null : "${var.name}-final"

  performance_insights_enabled    = true
  performance_insights_kms_key_id = module.key.arn
  enabled_cloudwatch_logs_exports = ["postgresql"]

  depends_on = [aws_cloudwatch_log_group.this]
}
