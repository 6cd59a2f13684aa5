"""Software bills of materials: an inventory written as CycloneDX or SPDX, and read back."""
