# Boot a base disk in QEMU, wait until cloud-init has applied a document, and seal the disk.
# By hand:  packer build -var-file=mine.pkrvars.hcl packer/qemu.pkr.hcl
# Tested with Packer 1.6.6, which contains every builder. Packer >= 1.7 needs `packer init packer/plugins`, which is
# untested.

variable "base_disk" {
  type        = string
  description = "Path of the base disk (qcow2). Packer works on a copy."
}

variable "user_data" {
  type        = string
  description = "Path of the document. The file name must be user-data."
}

variable "meta_data" {
  type        = string
  description = "Path of NoCloud's meta-data with the build's public key. The file name must be meta-data."
}

variable "bundle" {
  type        = string
  description = "Path of the app's bundle, whose digest is in the document. The file name must be bundle.tar."
}

variable "private_key" {
  type        = string
  description = "Path of the build's ed25519 private key."
}

variable "output" {
  type        = string
  description = "Folder to create. The disk is written to disk.qcow2 in it."
}

variable "canary" {
  type        = string
  default     = ""
  description = "Text to write to many places before the seal. The proof checks that the image does not contain it."
}

variable "accelerator" {
  type    = string
  default = "tcg"
}

variable "cpus" {
  type    = number
  default = 2
}

variable "memory" {
  type        = number
  default     = 1024
  description = "MiB."
}

variable "console" {
  type        = string
  default     = "/dev/null"
  description = "File for the output of the serial console."
}

source "qemu" "machine" {
  disk_image       = true
  iso_url          = var.base_disk
  iso_checksum     = "none"
  format           = "qcow2"
  skip_compaction  = true
  disk_interface   = "virtio"
  disk_discard     = "unmap"
  disk_cache       = "unsafe"
  skip_resize_disk = true
  net_device       = "virtio-net"

  accelerator  = var.accelerator
  headless     = true
  disable_vnc  = true
  boot_wait    = "-1s"
  qemuargs = [
    ["-cpu", "max"],
    ["-smp", "${var.cpus}"],
    ["-m", "${var.memory}M"],
    ["-display", "none"],
    # Deny system calls that QEMU does not need, as libvirt does.
    ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"],
    ["-serial", "file:${var.console}"],
    ["-device", "virtio-rng-pci"],
    # By default, Packer 1.6 forwards SSH from every address of this computer.
    ["-netdev", "user,id=user.0,hostfwd=tcp:127.0.0.1:{{ .SSHHostPort }}-:22"],
  ]

  cd_files = [var.user_data, var.meta_data, var.bundle]
  cd_label = "cidata"

  communicator         = "ssh"
  ssh_username         = "debian"
  ssh_private_key_file = var.private_key
  ssh_timeout          = "10m"

  output_directory = var.output
  vm_name          = "disk.qcow2"
  shutdown_command = "sudo cp /tmp/seal.sh /run/seal.sh && sudo systemd-run --quiet sh /run/seal.sh"
  shutdown_timeout = "3m"
}

build {
  sources = ["source.qemu.machine"]

  provisioner "shell" {
    script           = "${path.root}/await.sh"
    environment_vars = ["CANARY=${var.canary}"]
    execute_command  = "sudo env {{ .Vars }} sh {{ .Path }}"
  }

  provisioner "file" {
    source      = "${path.root}/seal.sh"
    destination = "/tmp/seal.sh"
  }

  provisioner "file" {
    source      = "${path.root}/sshd-algorithms"
    destination = "/tmp"
  }
}
