locals {
  # Types of the Parquet files that intake writes (fl_assets/cohorts/screen.py).
  types = { number = "double", flag = "tinyint", category = "string" }
  columns = var.cohort == null ? [] : concat(
    [{ name = coalesce(var.cohort.id_column, "row_id"), type = "string" }],
    [for column in var.cohort.columns : { name = column.name, type = local.types[column.kind] }],
    [{ name = var.cohort.label.column, type = "tinyint" }],
  )
}

resource "aws_glue_catalog_database" "this" {
  count = var.cohort == null ? 0 : 1

  name        = replace(local.prefix, "-", "_")
  description = "Records of ${var.hospital}, for those who may read its bucket"
  tags        = local.tags
}

# Every version of the records is a whole file of its own, so that the table must not read the
# folder: it reads the files that a list at its location names.
resource "aws_glue_catalog_table" "records" {
  count = var.cohort == null ? 0 : 1

  name          = "records"
  database_name = aws_glue_catalog_database.this[0].name
  table_type    = "EXTERNAL_TABLE"
  parameters    = { EXTERNAL = "TRUE", classification = "parquet" }

  storage_descriptor {
    location      = "s3://${var.bucket}/athena/records/"
    input_format  = "org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat"
    output_format = "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat"

    ser_de_info {
      serialization_library = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"
    }

    dynamic "columns" {
      for_each = local.columns

      content {
        name = lower(columns.value.name)
        type = columns.value.type
      }
    }
  }
}
