# Starts Debian's own AMI at EC2, lets cloud-init apply a document to it, seals it and makes an AMI of its disk.
# By hand:  packer build -var-file=mine.pkrvars.hcl packer/amazon-ebs.pkr.hcl
# Proved with Packer 1.6.6, where every builder is compiled in. Packer >= 1.7 wants a plugin: unproved.

variable "region" {
  type = string
}

variable "base" {
  type        = string
  default     = "debian-13-amd64-*"
  description = "Name of Debian's AMI, the newest one where it is a pattern; the document must be made for its release."
}

variable "ami_name" {
  type        = string
  description = "The new AMI's; nobody else's in this region."
}

variable "user_data" {
  type        = string
  description = "Path of the document, of at most 16,384 bytes; it may be gzipped."
}

variable "bundle" {
  type        = string
  description = "Path of the app's bundle, which the document names by digest."
}

variable "key_pair" {
  type        = string
  description = "Name of an ed25519 key pair at EC2: Packer 1.6 makes RSA ones, with signatures that Debian refuses."
}

variable "private_key" {
  type        = string
  description = "Path of its private half."
}

variable "security_group" {
  type        = string
  default     = ""
  description = "Id of one that lets SSH in; left out, Packer makes one, which has no tags."
}

variable "instance_type" {
  type    = string
  default = "t3.small"
}

variable "username" {
  type        = string
  default     = "admin"
  description = "Who logs in: `admin` on Debian's AMIs."
}

variable "tags" {
  type        = map(string)
  default     = {}
  description = "Of the instance, its volumes, the AMI and its snapshots."
}

variable "ssh_host" {
  type        = string
  default     = ""
  description = "Where the instance answers, if not at its address."
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
  description = "EC2's address, if not the region's."
}

variable "known" {
  type        = bool
  default     = false
  description = "Who asks and which region has been looked at already: Packer need not, at addresses of its own."
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

  # The seal stops it: one that fails leaves it running, and that is a failed build.
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

  # Where app-setup looks for it, whole or not at all.
  provisioner "shell" {
    inline = [
      "sudo mkdir -p /var/lib/app-incoming",
      "sudo cp /tmp/bundle.tar /var/lib/app-incoming/.bundle",
      "sudo mv /var/lib/app-incoming/.bundle /var/lib/app-incoming/$(sha256sum /tmp/bundle.tar | cut -c 1-64).tar",
      "rm /tmp/bundle.tar",
    ]
  }

  provisioner "shell" {
    script          = "${path.root}/await.sh"
    execute_command = "sudo env {{ .Vars }} sh {{ .Path }}"
  }

  provisioner "file" {
    source      = "${path.root}/seal.sh"
    destination = "/tmp/seal.sh"
  }

  # Nothing comes after it on that disk; the moment is for Packer to say goodbye.
  provisioner "shell" {
    inline     = ["sudo cp /tmp/seal.sh /run/seal.sh && sudo systemd-run --quiet sh -c 'sleep 2; exec sh /run/seal.sh'"]
    skip_clean = true
  }
}
