# Install the plugin that Packer >= 1.7 needs to build ../qemu.pkr.hcl. Untested.
#   packer init packer/plugins && packer build -var-file=… packer/qemu.pkr.hcl
# Packer 1.6 refuses this block, so it is in a separate folder.
packer {
  required_plugins {
    qemu = {
      version = ">= 1.1.0"
      source  = "github.com/hashicorp/qemu"
    }
  }
}
