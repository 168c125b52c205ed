# Launch an instance of Debian's AMI, wait until cloud-init has applied a document, seal it, and register its disk as an
# AMI.
# By hand:  packer build -var-file=mine.pkrvars.hcl packer/amazon-ebs.pkr.hcl
# Tested with Packer 1.6.6, which contains every builder. Packer >= 1.7 needs a plugin, which is untested.

variable "region" {
  type = string
}

variable "base" {
  type        = string
  default     = "debian-13-amd64-*"
  description = "Name or pattern of Debian's AMI (newest match). The document must be for its Debian version."
}

variable "ami_name" {
  type        = string
  description = "Name of the new AMI, unique in the region."
}

variable "user_data" {
  type        = string
  description = "Path of the document, at most 16,384 bytes. It may be gzipped."
}

variable "bundle" {
  type        = string
  description = "Path of the app's bundle, whose digest is in the document."
}

variable "key_pair" {
  type        = string
  description = "Name of an ed25519 key pair in EC2. Packer 1.6 creates RSA ones, whose signatures Debian refuses."
}

variable "private_key" {
  type        = string
  description = "Path of the private key of the key pair."
}

variable "security_group" {
  type        = string
  default     = ""
  description = "Id of a security group that allows SSH (default: Packer creates one, without tags)."
}

variable "instance_type" {
  type    = string
  default = "t3.small"
}

variable "username" {
  type        = string
  default     = "admin"
  description = "User for SSH: `admin` on Debian's AMIs."
}

variable "tags" {
  type        = map(string)
  default     = {}
  description = "Tags of the instance, its volumes, the AMI and its snapshots."
}

variable "ssh_host" {
  type        = string
  default     = ""
  description = "Host for SSH (default: the instance's address)."
}

variable "ssh_port" {
  type    = number
  default = 22
}

variable "ssh_timeout" {
  type    = string
  default = "10m"
}

variable "endpoint" {
  type        = string
  default     = ""
  description = "URL of EC2's API (default: that of the region)."
}

variable "known" {
  type        = bool
  default     = false
  description = "Skip Packer's checks of the credentials and the region, which ignore `endpoint`. bake has made them."
}

source "amazon-ebs" "machine" {
  region                     = var.region
  custom_endpoint_ec2        = var.endpoint
  skip_region_validation     = var.known
  skip_credential_validation = var.known
  skip_metadata_api_check    = var.known

  source_ami_filter {
    filters = {
      name                = var.base
      architecture        = "x86_64"
      virtualization-type = "hvm"
      root-device-type    = "ebs"
    }
    owners      = ["136693071363"]
    most_recent = true
  }
  instance_type     = var.instance_type
  security_group_id = var.security_group
  user_data_file    = var.user_data

  ami_name        = var.ami_name
  run_tags        = var.tags
  run_volume_tags = var.tags
  tags            = var.tags
  snapshot_tags   = var.tags

  communicator         = "ssh"
  ssh_host             = var.ssh_host
  ssh_port             = var.ssh_port
  ssh_username         = var.username
  ssh_keypair_name     = var.key_pair
  ssh_private_key_file = var.private_key
  ssh_timeout          = var.ssh_timeout

  # The seal stops the instance. If it fails, the instance keeps running, and the build fails.
  shutdown_behavior     = "stop"
  disable_stop_instance = true
  aws_polling {
    delay_seconds = 5
    max_attempts  = 240
  }
}

build {
  sources = ["source.amazon-ebs.machine"]

  provisioner "file" {
    source      = var.bundle
    destination = "/tmp/bundle.tar"
  }

  provisioner "shell" {
    script          = "${path.root}/store-bundle.sh"
    execute_command = "sudo env {{ .Vars }} sh {{ .Path }}"
  }

  provisioner "shell" {
    script          = "${path.root}/await.sh"
    execute_command = "sudo env {{ .Vars }} sh {{ .Path }}"
  }

  provisioner "file" {
    source      = "${path.root}/seal.sh"
    destination = "/tmp/seal.sh"
  }

  provisioner "file" {
    source      = "${path.root}/sshd-algorithms"
    destination = "/tmp"
  }

  # The seal is the last program that uses the disk. The pause lets Packer close its connection first.
  provisioner "shell" {
    inline     = ["sudo cp /tmp/seal.sh /run/seal.sh && sudo systemd-run --quiet sh -c 'sleep 2; exec sh /run/seal.sh'"]
    skip_clean = true
  }
}
