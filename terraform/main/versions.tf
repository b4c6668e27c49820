terraform {
  # Locks of the state on S3 itself are no experiment from 1.11 on.
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }

  # The rest is in backend.hcl, which bootstrap.sh writes.
  backend "s3" {
    key          = "main.tfstate"
    encrypt      = true
    use_lockfile = true
  }
}
