# Unproved: what Packer >= 1.7 needs before it builds ../qemu.pkr.hcl.
#   packer init packer/plugins && packer build -var-file=… packer/qemu.pkr.hcl
# Packer 1.6 refuses this block, so it stands in a folder of its own.
packer {
  required_plugins {
    qemu = {
      version = ">= 1.1.0"
      source  = "github.com/hashicorp/qemu"
    }
  }
}
