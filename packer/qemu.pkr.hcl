# Boots a base disk under QEMU, lets cloud-init apply a document to it, seals it.
# By hand:  packer build -var-file=mine.pkrvars.hcl packer/qemu.pkr.hcl
# Proved with Packer 1.6.6, where every builder is compiled in. Packer >= 1.7 wants
# plugins/qemu.pkr.hcl beside this file and `packer init`: unproved.

variable "base_disk" {
  type        = string
  description = "Path of the base disk, a qcow2; it is copied, never changed."
}

variable "user_data" {
  type        = string
  description = "Path of the document; its file must be named user-data."
}

variable "meta_data" {
  type        = string
  description = "Path of NoCloud's meta-data, with the build's public key; its file must be named meta-data."
}

variable "bundle" {
  type        = string
  description = "Path of the app's bundle, which the document names by digest; its file must be named bundle.tar."
}

variable "private_key" {
  type        = string
  description = "Path of the build's ed25519 private key."
}

variable "output" {
  type        = string
  description = "Folder to make; the disk appears in it as disk.qcow2."
}

variable "canary" {
  type        = string
  default     = ""
  description = "Text to leave about the machine before it is sealed; the proof looks for it in the image."
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
  description = "File that gets the serial console."
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
    ["-serial", "file:${var.console}"],
    ["-device", "virtio-rng-pci"],
    # Packer 1.6 would forward SSH from every address of this computer.
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
}
