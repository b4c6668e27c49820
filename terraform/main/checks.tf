# Who applies and is no deployer could not plan again: the buckets of the hospitals would refuse to
# say whether they are there.
resource "terraform_data" "deployer" {
  lifecycle {
    precondition {
      condition     = contains(var.deployers, data.aws_iam_session_context.current.issuer_arn)
      error_message = "You are ${data.aws_iam_session_context.current.issuer_arn}, which is not among deployers: add it."
    }
  }
}
